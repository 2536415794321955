"""What a web process does for the metrics: count, and bring the counts into Redis once a second."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.metrics.collector import Collector, Finished
from gateway.metrics.pruning import Pruner
from gateway.metrics.store import TotalsStore
from gateway.routes import RouteTable

logger = logging.getLogger(__name__)

WRITE_INTERVAL_S = 1.0
WRITE_TIMEOUT_S = 3.0
PRUNE_INTERVAL_S = 600.0


def count_none() -> int:
    """For a gateway whose accounting drops nothing."""
    return 0


class Metrics:
    """One per web process.

    `process` is a name that no other process has (`gateway.report.name_process`). `count_dropped` tells how many rows
    the accounting has dropped since this process began.
    """

    def __init__(self, routes: RouteTable, process: str, *, count_dropped: Callable[[], int] = count_none) -> None:
        self._routes = routes
        self._count_dropped = count_dropped
        self._collector = Collector()
        self._store = TotalsStore(process)
        self._pruner = Pruner()
        self._prune_at = time.monotonic() + PRUNE_INTERVAL_S
        self._is_failing = False
        self.observe: Callable[[Finished], None] = self._collector.observe
        """Count a finished exchange: quick, raises nothing, touches nothing but memory."""

    async def run(self, redis: Redis) -> None:
        """Write until cancelled, and once more then. A Redis that is away costs nothing but the delay."""
        task = asyncio.current_task()
        try:
            # redis-py may lose a cancellation that meets it while it connects, so it is asked for after each write.
            while task is None or not task.cancelling():
                await asyncio.sleep(WRITE_INTERVAL_S)
                await self.write(redis)
        finally:
            await self.write(redis)

    async def write(self, redis: Redis) -> None:
        """Write now; a failure is logged, and what was not written is kept for the next time."""
        values = self._collector.take_changed()
        if dropped := self._count_dropped():
            values["dropped"] = dropped
        self._store.take(values)
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await self._store.write(redis)
                if time.monotonic() >= self._prune_at:
                    await self.prune(redis)
        except (RedisError, OSError, TimeoutError) as error:
            if not self._is_failing:
                reason = str(error) or "no answer"
                logger.warning("The metrics can't be written to Redis; they are kept and written later: %s", reason)
            self._is_failing = True
        else:
            if self._is_failing:
                logger.info("The metrics are written to Redis again")
            self._is_failing = False

    async def prune(self, redis: Redis) -> None:
        """Remove what belongs to deleted instances and to processes that ended long ago. Raises RedisError."""
        self._prune_at = time.monotonic() + PRUNE_INTERVAL_S
        if self._routes.is_loaded:
            gone = await self._pruner.prune(redis, self._routes.by_id)
            self._collector.forget(gone)
            self._store.forget(gone)
