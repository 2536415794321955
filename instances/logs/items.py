"""What a follower of a log is given, one after the other."""

from __future__ import annotations

from dataclasses import dataclass

from instances.logs.records import Cursor, has_pieces
from instances.logs.text import RunInfo


class LogChunk:
    """Consecutive whole records of one run, shared by all followers in a process.

    ``shared`` keeps what was encoded for one follower and fits all that want the same form; ``cost`` counts it, so
    that a ring of chunks bounds the memory of both.
    """

    __slots__ = ("_has_pieces", "data", "end", "run_id", "shared", "start")

    def __init__(self, run_id: int, start: int, data: bytes) -> None:
        self.run_id = run_id
        self.start = start
        self.end = start + len(data)
        self.data = data
        self.shared: dict[tuple[str, str | None, bool], str] = {}
        self._has_pieces: bool | None = None

    @property
    def cursor(self) -> Cursor:
        """Position behind the chunk."""
        return Cursor(self.run_id, self.end)

    @property
    def cost(self) -> int:
        """Bytes of memory, roughly."""
        return len(self.data) + sum(map(len, self.shared.values()))

    @property
    def has_pieces(self) -> bool:
        """Whether a line goes on in another record; then followers may differ in how they show it."""
        if self._has_pieces is None:
            self._has_pieces = has_pieces(self.data)
        return self._has_pieces

    def cut_from(self, offset: int) -> LogChunk:
        """Return the chunk without what lies before the offset."""
        return self if offset <= self.start else LogChunk(self.run_id, offset, self.data[offset - self.start :])


@dataclass(frozen=True)
class Gap:
    """``size`` bytes of a run's log before ``cursor`` are gone."""

    cursor: Cursor
    size: int


@dataclass(frozen=True)
class RunBegins:
    """What follows is from this run, from the cursor on."""

    run: RunInfo
    cursor: Cursor


@dataclass(frozen=True)
class RunEnds:
    """The log of the run is complete."""

    run: RunInfo
    cursor: Cursor


Item = LogChunk | Gap | RunBegins | RunEnds
