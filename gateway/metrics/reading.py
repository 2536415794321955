"""Everything a scrape needs from Redis, read in a few round trips."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar, cast

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.metrics.fields import TOTALS_KEY
from gateway.metrics.samples import SAMPLE_PREFIX, NodeSample
from gateway.metrics.scripts import READ
from gateway.peers import KEY_PREFIX

READ_TIMEOUT_S = 5.0
SETTLE_S = 3.0
"""After Redis lost the totals, every process has put its part back within this time."""

T = TypeVar("T")


class MetricsUnavailable(Exception):
    """There is nothing to show; the message says why."""


class Line(msgspec.Struct, frozen=True):
    """Requests that wait for an instance in one web process."""

    count: int


class Report(msgspec.Struct, frozen=True):
    """What is needed of a gateway's report (`gateway/report.py`)."""

    in_flight: dict[int, int] = {}
    last_used: dict[int, float] = {}
    waiting: dict[int, Line] = {}


class Picture(msgspec.Struct, frozen=True):
    """What Redis holds at one moment."""

    totals: dict[str, int]
    reports: list[Report]
    nodes: list[NodeSample]


async def read_picture(redis: Redis) -> Picture:
    """Read it; raise `MetricsUnavailable` when Redis is away or the totals are not complete."""
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            held, now = await _read_totals(redis)
            keys = [key async for key in redis.scan_iter(match="corral:*", count=1000)]
            wanted = [key for key in keys if key.startswith((KEY_PREFIX.encode(), SAMPLE_PREFIX.encode()))]
            bodies = await redis.mget(wanted) if wanted else []
    except TimeoutError:
        raise MetricsUnavailable(f"Redis did not answer within {READ_TIMEOUT_S:g} s") from None
    except (RedisError, OSError) as error:
        raise MetricsUnavailable(f"Redis can't be read: {error}") from error
    if "@epoch" not in held:
        raise MetricsUnavailable("nothing has been counted yet, try again in a few seconds")
    if now - float(held.get("@since", 0)) < SETTLE_S:
        raise MetricsUnavailable("Redis had lost the totals and gets them again, try again in a few seconds")
    read = [(key, bytes(body)) for key, body in zip(wanted, bodies, strict=True) if isinstance(body, bytes)]
    return Picture(
        totals={field: int(value) for field, value in held.items() if not field.startswith("@")},
        reports=_decode([body for key, body in read if key.startswith(KEY_PREFIX.encode())], Report),
        nodes=_decode([body for key, body in read if key.startswith(SAMPLE_PREFIX.encode())], NodeSample),
    )


async def _read_totals(redis: Redis) -> tuple[dict[str, str], float]:
    now, packed = await cast("Awaitable[tuple[bytes, bytes]]", redis.eval(READ, 1, TOTALS_KEY))
    flat = msgspec.msgpack.decode(packed, type=list[str])
    return dict(zip(flat[::2], flat[1::2], strict=True)), float(now)


def _decode(bodies: list[bytes], kind: type[T]) -> list[T]:
    """What can be read; a report of another version, which can't, is left out."""
    decoded = []
    for body in bodies:
        try:
            decoded.append(msgspec.json.decode(body, type=kind))
        except msgspec.MsgspecError:
            continue
    return decoded
