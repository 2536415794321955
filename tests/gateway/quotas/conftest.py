from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from accounts.domain.windows import find_window
from gateway.structs import Principal, PrincipalKind, Quota
from tests.gateway.harness import CONFIG, KEY, Gateway, Upstream, Valkey, make_route


class Source:
    """The calendar, and a database that a test fills or breaks."""

    def __init__(self) -> None:
        self.recorded: dict[str, int] = {}
        self.error: Exception | None = None
        self.asked = 0
        self.gate = threading.Event()
        self.gate.set()

    def find_window(self, window: str, moment: float) -> tuple[float, float]:
        return find_window(window, moment)

    def count_used(self, counters: Mapping[str, float]) -> dict[str, int]:
        self.asked += 1
        self.gate.wait(30)
        if self.error is not None:
            raise self.error
        return {counter: self.recorded.get(counter, 0) for counter in counters}


def make_quota(unit: str = "requests", window: str = "day", limit: int = 3, subject: str = "key:1") -> Quota:
    counter = f"{subject}:{unit}:{window}"
    return Quota(counter=counter, unit=unit, window=window, limit=limit, whose="this key")  # type: ignore[arg-type]


def limited(*quotas: Quota, kind: PrincipalKind = "inference") -> Principal:
    return Principal(kind=kind, key_id=1, user_id=1, instances=None, quotas=quotas)


@asynccontextmanager
async def open_gateways(
    upstream: Upstream, valkey: Valkey, source: Source, *quotas: Quota, count: int = 1
) -> AsyncIterator[list[Gateway]]:
    """Gateways that share a Valkey, in front of one ready instance; the usual key has these quotas."""
    async with AsyncExitStack() as stack:
        gateways = []
        for _ in range(count):
            gateway = Gateway(CONFIG, redis_url=valkey.url, quota_source=source)
            gateway.keys[KEY] = limited(*quotas)
            gateways.append(await stack.enter_async_context(gateway))
            await gateway.set_routes(make_route(upstream))
        yield gateways


def seconds_left(window: str) -> float:
    """Until the current window ends; tests that need more wait for the next."""
    return find_window(window, time.time())[1] - time.time()
