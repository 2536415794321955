"""Slowing down those who try keys."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict

from gateway.errors import GatewayError

FREE_FAILURES = 10
"""Wrong keys that an address may send in `WINDOW_S` before it is slowed down."""
WINDOW_S = 60.0
DELAY_S = 1.0
MAX_WAITING = 20
"""Attempts of one address that may wait their second; the next ones are refused at once."""
_MAX_ADDRESSES = 10_000


class _Record:
    __slots__ = ("failures", "since", "waiting")

    def __init__(self) -> None:
        self.failures = 0
        self.since = time.monotonic()
        self.waiting = 0


class Brake:
    """Counts wrong keys by client address.

    Only keys that were not known to be valid a moment ago are ever delayed, so colleagues behind the same address go on
    working while somebody among them tries keys.
    """

    def __init__(self, *, delay_s: float = DELAY_S) -> None:
        self._delay_s = delay_s
        self._records: OrderedDict[str, _Record] = OrderedDict()

    async def slow_down(self, address: str) -> None:
        """Wait if this address has sent too many wrong keys lately.

        Raises `GatewayError` 429 when many of its attempts wait already.
        """
        record = self._records.get(address)
        if record is None or record.failures < FREE_FAILURES:
            return
        if time.monotonic() - record.since > WINDOW_S:
            del self._records[address]
            return
        if record.waiting >= MAX_WAITING:
            message = "Too many wrong API keys from this address; try again later"
            raise GatewayError(429, "rate_limit_exceeded", message, retry_after_s=int(WINDOW_S))
        record.waiting += 1
        try:
            await asyncio.sleep(self._delay_s)
        finally:
            record.waiting -= 1

    def note_failure(self, address: str) -> None:
        """This address has sent a wrong key."""
        record = self._records.get(address)
        if record is None or time.monotonic() - record.since > WINDOW_S:
            record = self._records[address] = _Record()
        record.failures += 1
        self._records.move_to_end(address)
        while len(self._records) > _MAX_ADDRESSES:
            self._records.popitem(last=False)
