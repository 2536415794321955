"""Telling what a program did from what the machine did to it: time in which this process did not get to run.

A busy or virtual machine stands still for a second now and then. A test of a short time says nothing about the program
then. What is bounded from above is measured with a `Stopwatch`, which leaves such times out. A test whose subject is a
short time of the product, and which such a time can spoil however the test is written, has the mark `timed`: it is run
again if it failed and this process had lost time meanwhile.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

TICK_S = 0.005
GAP_S = 0.05
"""What is shorter is no gap."""
QUEUE = Path("/proc/self/schedstat")
"""Linux: how long the main thread has run and how long it has waited for a processor, in nanoseconds."""
ATTEMPTS = 6


class Pulse(threading.Thread):
    """Ticks for as long as the process lives, and sums up by how much its ticks came late."""

    def __init__(self) -> None:
        super().__init__(name="tests-pulse", daemon=True)
        self._last = time.monotonic()
        self._lost_s = 0.0

    def run(self) -> None:
        """Tick."""
        while True:
            time.sleep(TICK_S)
            now = time.monotonic()
            if now - self._last > GAP_S:
                self._lost_s += now - self._last - TICK_S
            self._last = now

    @property
    def lost_s(self) -> float:
        """Seconds lost so far, the present gap included."""
        lost_s, gap_s = self._lost_s, time.monotonic() - self._last
        return lost_s + (gap_s - TICK_S if gap_s > GAP_S else 0.0)


_pulse: Pulse | None = None


def read_losses() -> tuple[float, float]:
    """Seconds that this process has lost: those in which it stood still, and those it has waited for a processor."""
    global _pulse  # noqa: PLW0603  one for the process
    if _pulse is None:
        _pulse = Pulse()
        _pulse.start()
    queued_ns = int(QUEUE.read_text().split()[1]) if QUEUE.exists() else 0
    return _pulse.lost_s, queued_ns / 1e9


class Stopwatch:
    """Measures from when it was made."""

    def __init__(self) -> None:
        self._losses = read_losses()
        self._began = time.monotonic()

    @property
    def lost_s(self) -> float:
        """Seconds in which this process could not run. A gap may count as both kinds of loss, so they are not added."""
        return max(now - before for now, before in zip(read_losses(), self._losses, strict=True))

    @property
    def wall_s(self) -> float:
        """Seconds by the clock on the wall: for lower bounds."""
        return time.monotonic() - self._began

    @property
    def worked_s(self) -> float:
        """Seconds in which this process could run: for upper bounds."""
        return self.wall_s - self.lost_s


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a test with the mark `timed` again when it failed and this process had lost time meanwhile."""
    if item.get_closest_marker("timed") is None:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for attempt in range(1, ATTEMPTS + 1):
        watch = Stopwatch()
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        if not any(report.failed for report in reports) or watch.lost_s < GAP_S or attempt == ATTEMPTS:
            break
        item._initrequest()  # type: ignore[attr-defined]  # with fresh fixtures
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
