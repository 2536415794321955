"""Finished exchanges as the metrics see them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import msgspec
from redis.asyncio import Redis

from gateway.metrics.fields import TOTALS_KEY
from gateway.routes import RouteTable
from gateway.structs import Route, Snapshot

ALPHA = Route(instance_id=7, name="alpha", backend_type="llama_cpp", state="ready", state_changed_at=1.0)
BETA = Route(instance_id=8, name="beta", backend_type="vllm", state="stopped", state_changed_at=1.0)


class Used(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


@dataclass
class Done:
    """An exchange that took `took_s` until now."""

    route: Route | None = ALPHA
    status: int = 200
    outcome: str = "answered"
    took_s: float = 0.02
    first_byte_after_s: float | None = None
    queued_s: float = 0.0
    usage: Used | None = None
    ended_s: float | None = field(default_factory=time.monotonic)

    @property
    def received_s(self) -> float:
        assert self.ended_s is not None
        return self.ended_s - self.took_s

    @property
    def first_byte_s(self) -> float | None:
        return None if self.first_byte_after_s is None else self.received_s + self.first_byte_after_s


def make_routes(*routes: Route) -> RouteTable:
    table = RouteTable()
    table.replace(Snapshot(routes=routes or (ALPHA, BETA)))
    return table


async def read_totals(redis: Redis) -> dict[str, int]:
    """The totals in Redis."""
    held = await redis.hgetall(TOTALS_KEY)
    return {field.decode(): int(value) for field, value in held.items() if not field.startswith(b"@")}


async def count_requests(redis: Redis) -> int:
    """All requests in Redis."""
    return sum(value for field, value in (await read_totals(redis)).items() if field.startswith("requests|"))
