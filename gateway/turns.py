"""What is done at the end of a turn of the event loop: all of it, after everything that was read has been looked at.

Whoever is sent several things then is woken once and not for each, and code that runs many times in a row runs faster.
What nobody waits for is done in longer rows still: all of it some moments later.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

TURN_LIMIT = 16
"""So many things wait at most: with more, the first would wait for long while the loop brings what others sent."""
LATER_S = 0.02
"""How long that waits for which nobody does."""


class TurnQueue:
    """Used from one event loop."""

    def __init__(self) -> None:
        self._now: deque[Callable[[], None]] = deque()
        self._later: deque[Callable[[], None]] = deque()
        self._is_planned = False
        self._is_running = False
        self._is_closed = False
        self._timer: asyncio.TimerHandle | None = None

    def add(self, work: Callable[[], None]) -> None:
        """Have `work` done at the end of this turn, or now where much waits already."""
        self._now.append(work)
        if len(self._now) >= TURN_LIMIT:
            self.run()
        elif not self._is_planned and not self._is_running:
            self._is_planned = True
            asyncio.get_running_loop().call_soon(self._run_planned)

    def add_later(self, work: Callable[[], None]) -> None:
        """Have `work` done after `LATER_S` or by `catch_up`; at once after `close`."""
        self._later.append(work)
        if self._is_closed:
            self.catch_up()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LATER_S, self.catch_up)

    def run(self) -> None:
        """Do all that waits for the end of the turn, and what that adds. Does nothing where it is called by that.

        What one of them raises goes to the loop's handler of exceptions; the others are done all the same.
        """
        if not self._is_running:
            self._is_running = True
            _do_all(self._now)
            self._is_running = False

    def catch_up(self) -> None:
        """Do what can wait. An error is handled as by `run`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        _do_all(self._later)

    def close(self) -> None:
        """Do all that waits, and from now on let nothing wait for long."""
        self._is_closed = True
        self.run()
        self.catch_up()

    def _run_planned(self) -> None:
        self._is_planned = False
        self.run()


def _do_all(queue: deque[Callable[[], None]]) -> None:
    while queue:
        work = queue.popleft()
        try:
            work()
        except Exception as error:  # noqa: BLE001  it concerns none of the others that wait
            message = "An error in what was to be done at the end of a turn or later"
            asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})
