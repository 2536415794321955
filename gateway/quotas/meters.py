"""Counting in memory: a few additions for each request of somebody who is limited."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gateway.structs import Quota

IDLE_S = 10.0
"""A counter that nobody used for so long is forgotten; its next request waits for the totals."""
REQUESTS, TOKENS = "requests", "tokens"
FindWindow = Callable[[str, float], tuple[float, float]]


class Meter:
    """What is used of one counter in one window.

    `known` is what all processes had used when Redis last said so, None before it did. `pending` is this process's
    since then, `sent` what of it is on its way. `used` is what limits are compared with; it means nothing before
    `is_read`.
    """

    __slots__ = ("begins", "counter", "ends", "is_read", "known", "pending", "sent", "touched", "used", "window")

    def __init__(self, counter: str, window: str, begins: float, ends: float, now: float) -> None:
        self.counter = counter
        self.window = window
        self.begins = begins
        self.ends = ends
        self.touched = now
        self.known: int | None = None
        self.is_read = False
        self.used = self.pending = self.sent = 0

    @property
    def key(self) -> str:
        """The name of this counter in this window."""
        return f"{self.counter}:{int(self.begins)}"

    def add(self, amount: int) -> None:
        """Count; negative amounts are given back."""
        self.used += amount
        self.pending += amount

    def take(self) -> int:
        """What is to be sent now."""
        self.sent, self.pending = self.pending, 0
        return self.sent

    def settle(self, total: int) -> None:
        """What was sent is part of the total by now."""
        self.known, self.sent, self.is_read = total, 0, True
        self.used = total + self.pending

    def put_back(self) -> None:
        """What was sent was not counted."""
        self.pending, self.sent = self.pending + self.sent, 0

    def recognize(self, recorded: int) -> None:
        """What the database has. Some of what this process counted may be in it, so the larger of both is believed."""
        if self.known is None:
            self.known = recorded
        self.is_read = True
        self.used = max(self.known + self.sent + self.pending, recorded)


class Meters:
    """The counters in use in this process. `left` is what was counted in windows that are over and not sent yet."""

    def __init__(self, find_window: FindWindow, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.by_counter: dict[str, Meter] = {}
        self.left: list[Meter] = []
        self._find_window = find_window

    def charge(self, quotas: Iterable[Quota]) -> Quota | bool:
        """Count one request. True when it may come in, the quota that refuses it, or False when totals are missing."""
        now = self.clock()
        by_counter = self.by_counter
        for quota in quotas:
            meter = by_counter.get(quota.counter)
            if meter is None or not meter.is_read or now >= meter.ends:
                return False
            meter.touched = now
            if meter.used >= quota.limit:
                return quota
        for quota in quotas:
            if quota.unit == REQUESTS:
                meter = by_counter[quota.counter]
                meter.used += 1
                meter.pending += 1
        return True

    def give_back(self, quotas: Iterable[Quota], seconds_ago: float) -> None:
        """Undo the counting of a request that was let in so long ago; in a window that is over it stays."""
        came = self.clock() - seconds_ago
        for quota in quotas:
            meter = self.by_counter.get(quota.counter)
            if quota.unit == REQUESTS and meter is not None and meter.begins <= came and meter.used > 0:
                meter.add(-1)

    def charge_tokens(self, quotas: Iterable[Quota], tokens: int) -> None:
        """Count what an answer used, in the window in which it ended."""
        now = self.clock()
        for quota in quotas:
            if quota.unit == TOKENS:
                self.find(quota, now).add(tokens)

    def find(self, quota: Quota, now: float) -> Meter:
        """The meter of a quota in the window of this moment."""
        meter = self.by_counter.get(quota.counter)
        if meter is None or now >= meter.ends:
            begins, ends = self._find_window(quota.window, now)
            fresh = Meter(quota.counter, quota.window, begins, ends, now)
            if meter is not None:
                self._put_aside(meter, fresh)
            meter = self.by_counter[quota.counter] = fresh
        meter.touched = now
        return meter

    def tidy(self) -> None:
        """Begin the windows that have begun, and forget what nobody uses any more."""
        now = self.clock()
        for counter, meter in list(self.by_counter.items()):
            if now - meter.touched > IDLE_S and not meter.pending and not meter.sent:
                del self.by_counter[counter]
            elif now >= meter.ends:
                fresh = Meter(counter, meter.window, *self._find_window(meter.window, now), meter.touched)
                self._put_aside(meter, fresh)
                self.by_counter[counter] = fresh

    def _put_aside(self, meter: Meter, fresh: Meter) -> None:
        if meter.pending or meter.sent:
            self.left.append(meter)
        if meter.is_read and meter.ends == fresh.begins:
            # Nothing was used yet in a window that follows one which was watched to its end.
            fresh.known, fresh.is_read = 0, True
