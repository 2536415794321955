"""Slowing down those who try keys."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict

from gateway.errors import GatewayError

FREE_FAILURES = 10
"""Wrong keys that an address may send in `WINDOW_S` before the answers to them are slowed down."""
WINDOW_S = 60.0
DELAY_S = 1.0
MAX_WAITING = 20
"""Answers to one address that may wait their second; further wrong keys are answered 429 at once."""
_MAX_ADDRESSES = 10_000


class _Record:
    __slots__ = ("failures", "since", "waiting")

    def __init__(self) -> None:
        self.waiting = 0
        self.begin_window()

    def begin_window(self) -> None:
        """Count anew; those who wait still do."""
        self.failures = 0
        self.since = time.monotonic()


class Brake:
    """Counts wrong keys by client address, and slows the answers to them down.

    To be asked only when a key has turned out to be wrong: behind a reverse proxy everybody has one address, so whoever
    has a valid key must not be made to wait for what others send.
    """

    def __init__(self, *, delay_s: float = DELAY_S) -> None:
        self._delay_s = delay_s
        self._records: OrderedDict[str, _Record] = OrderedDict()

    async def hold_answer(self, address: str) -> None:
        """Count a wrong key of this address, and wait if it has sent too many lately.

        Raises `GatewayError` 429 when many answers to it wait already.
        """
        record = self._note_failure(address)
        if record.failures <= FREE_FAILURES:
            return
        if record.waiting >= MAX_WAITING:
            message = "Too many wrong API keys from this address; try again later"
            raise GatewayError(429, "rate_limit_exceeded", message, retry_after_s=int(WINDOW_S))
        record.waiting += 1
        try:
            await asyncio.sleep(self._delay_s)
        finally:
            record.waiting -= 1

    def _note_failure(self, address: str) -> _Record:
        record = self._records.get(address)
        if record is None:
            record = self._records[address] = _Record()
        elif time.monotonic() - record.since > WINDOW_S:
            record.begin_window()
        record.failures += 1
        self._records.move_to_end(address)
        while len(self._records) > _MAX_ADDRESSES:
            self._records.popitem(last=False)
        return record


BRAKE = Brake()
"""The one of this process: what an address sends counts together, to the gateway's routes and to all others."""
