"""Who may come in by what is used, and the exchange of totals with the other processes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor

from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.broker import end_task, wait_within
from gateway.exchange import Exchange
from gateway.quotas.answers import describe, refuse, refuse_unknown
from gateway.quotas.meters import Meter, Meters
from gateway.quotas.source import QuotaSource
from gateway.quotas.store import Part, TotalsStore
from gateway.structs import Principal, Quota

logger = logging.getLogger(__name__)

INTERVAL_S = 0.2
"""Between two exchanges of totals: what is used elsewhere is known so late at most."""
BELIEVED_S = 3.0
"""How long totals are good after the last answer of Redis or the database."""
_ANSWER_WITHIN_S = 0.5
_RECORDED_EVERY_S = 1.0
_WAIT_AT_MOST_S = 2.0
_PARTS_AT_MOST = 250


class QuotaBook:
    """One process's quotas. `source` is asked in `threads`. Used from one event loop."""

    def __init__(
        self,
        redis: Redis,
        process: str,
        *,
        source: QuotaSource,
        threads: Executor,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._redis = redis
        self._source = source
        self._threads = threads
        self._meters = Meters(source.find_window, clock)
        self._store = TotalsStore(process)
        self._number = 0
        self._sent: list[Meter] = []
        """The last batch, while it is not known whether it was counted."""
        self._parts: list[Part] = []
        self._wake = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._answered_at = -BELIEVED_S
        self._is_current = False
        self._is_redis_failing = False
        self._reading: asyncio.Task[None] | None = None
        self._read_at = -_RECORDED_EVERY_S

    async def admit(self, exchange: Exchange, principal: Principal) -> None:
        """Count a request of somebody who is limited. Raises `GatewayError` 429, and 503 while nothing is known."""
        quotas = principal.quotas
        verdict = self._meters.charge(quotas) if self._is_current else False
        if verdict is False:
            verdict = await self._charge_when_known(quotas)
        exchange.extra_headers += describe(quotas, self._meters)
        if isinstance(verdict, Quota):
            raise refuse(exchange, verdict, self._meters)
        exchange.quotas = quotas

    def conclude(self, exchange: Exchange) -> None:
        """Count the tokens of a request that is over, or give it back if it came to nothing; for every exchange."""
        quotas = exchange.quotas
        if not quotas:
            return
        if exchange.route is None or exchange.outcome == "refused":
            self._meters.give_back(quotas, time.monotonic() - exchange.received_s)
        usage = exchange.usage
        if usage is not None:
            self._meters.charge_tokens(quotas, usage.prompt_tokens + usage.completion_tokens)

    async def run(self) -> None:
        """Exchange totals until cancelled; then bring what is left into Redis, as well as possible."""
        try:
            while True:
                await self._pause()
                await self._hold_round()
        finally:
            if self._reading is not None:
                self._reading.cancel()
            await self._talk()

    async def _charge_when_known(self, quotas: Iterable[Quota]) -> Quota | bool:
        """Wait for the totals, then charge. Raises `GatewayError` 503."""
        deadline = time.monotonic() + _WAIT_AT_MOST_S
        while True:
            now = self._meters.clock()
            for quota in quotas:
                self._meters.find(quota, now)
            if self._is_current and (verdict := self._meters.charge(quotas)) is not False:
                return verdict
            if (left := deadline - time.monotonic()) <= 0:
                raise refuse_unknown()
            round_ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(round_ended)
            self._wake.set()
            await asyncio.wait((round_ended,), timeout=left)

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(INTERVAL_S):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _hold_round(self) -> None:
        self._wake.clear()
        waiting, self._waiting = self._waiting, []
        self._meters.tidy()
        is_answered = await self._talk()
        if not is_answered or any(not meter.is_read for meter in self._meters.by_counter.values()):
            is_answered = await self._read_recorded() or is_answered
        if is_answered:
            self._answered_at = time.monotonic()
        self._is_current = time.monotonic() - self._answered_at < BELIEVED_S
        for round_ended in waiting:
            if not round_ended.done():
                round_ended.set_result(None)
        if waiting and not is_answered:
            await asyncio.sleep(INTERVAL_S)  # whoever waits asks again at once

    async def _talk(self) -> bool:
        """Send everything and take in the totals. Returns whether Redis answered."""
        left, self._meters.left = self._meters.left, []
        try:
            if self._sent:
                await self._send()  # its fate is not known
            wanted = [*left, *self._meters.by_counter.values()]
            for start in range(0, len(wanted), _PARTS_AT_MOST):
                self._sent = wanted[start : start + _PARTS_AT_MOST]
                self._parts = [Part(meter.key, meter.take(), meter.known, meter.ends) for meter in self._sent]
                self._number += 1
                await self._send()
        except (RedisError, OSError, TimeoutError) as error:
            if not self._is_redis_failing:
                logger.warning("Quotas go by the database: Redis can't be asked: %s", error)
            self._is_redis_failing = True
            return False
        finally:
            self._meters.left += [meter for meter in left if meter.pending]
        if self._is_redis_failing:
            logger.info("Quotas go by Redis again")
        self._is_redis_failing = False
        return True

    async def _send(self) -> None:
        """Send the batch that is made; raises what Redis's client raises, and the batch stays."""
        exchanging = asyncio.create_task(self._store.exchange(self._redis, self._number, self._parts))
        try:
            totals = await wait_within(exchanging, _ANSWER_WITHIN_S)
        finally:
            await end_task(exchanging)
        for meter, total in zip(self._sent, totals, strict=True):
            if total is None:
                meter.put_back()
            else:
                meter.settle(total)
        self._sent, self._parts = [], []

    async def _read_recorded(self) -> bool:
        """Take in what the database has, once a second. Returns whether it has answered lately."""
        if self._reading is None or self._reading.done():
            is_wanted = any(not meter.is_read for meter in self._meters.by_counter.values())
            if is_wanted or time.monotonic() - self._read_at >= _RECORDED_EVERY_S:
                self._reading = asyncio.create_task(self._read_now(), name="gateway-quotas-reading")
        if self._reading is not None:
            await asyncio.wait((self._reading,), timeout=_ANSWER_WITHIN_S)
        return time.monotonic() - self._read_at < 2 * _RECORDED_EVERY_S

    async def _read_now(self) -> None:
        meters = list(self._meters.by_counter.values())
        try:
            counters = {meter.counter: meter.begins for meter in meters}
            loop = asyncio.get_running_loop()
            recorded = await loop.run_in_executor(self._threads, self._source.count_used, counters)
        except Exception as error:  # noqa: BLE001 - whatever the database driver raises, the round goes on
            logger.warning("What is used can't be read from the database: %s", error)
            return
        for meter in meters:
            meter.recognize(recorded[meter.counter])
        self._read_at = time.monotonic()
