"""What is done at the end of a turn of the event loop: all of it, after everything that was read has been looked at.

Whoever is sent several things then is woken once and not for each, and code that runs many times in a row runs faster.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

TURN_LIMIT = 16
"""So many things wait at most: with more, the first would wait for long while the loop brings what others sent."""


class TurnQueue:
    """Used from one event loop."""

    def __init__(self) -> None:
        self._first: deque[Callable[[], None]] = deque()
        self._then: deque[Callable[[], None]] = deque()
        self._is_planned = False
        self._is_running = False

    def add(self, work: Callable[[], None]) -> None:
        """Have `work` done at the end of this turn, or now where much waits already."""
        self._first.append(work)
        if len(self._first) >= TURN_LIMIT:
            self.run()
        else:
            self._plan()

    def add_later(self, work: Callable[[], None]) -> None:
        """Have `work` done after all that waits."""
        self._then.append(work)
        self._plan()

    def run(self) -> None:
        """Do all that waits, and what that adds. Does nothing where it is called by what it does.

        What one of them raises goes to the loop's handler of exceptions; the others are done all the same.
        """
        if self._is_running:
            return
        self._is_running = True
        while queue := self._first or self._then:
            work = queue.popleft()
            try:
                work()
            except Exception as error:  # noqa: BLE001  it concerns none of those whose news has ended the turn
                message = "An error in what was to be done at the end of a turn"
                asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})
        self._is_running = False

    def _plan(self) -> None:
        if not self._is_planned and not self._is_running:
            self._is_planned = True
            asyncio.get_running_loop().call_soon(self._run_planned)

    def _run_planned(self) -> None:
        self._is_planned = False
        self.run()
