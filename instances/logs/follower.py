"""One follower of an instance's log: its position, and what comes next for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from instances.logs.feed import RETRY_S, RunFeed
from instances.logs.files import Segment
from instances.logs.items import Gap, Item, LogChunk, RunBegins, RunEnds
from instances.logs.parts import read_from
from instances.logs.records import Cursor
from instances.logs.stream import MAX_CHUNK, read_entries
from instances.logs.text import RunInfo

if TYPE_CHECKING:
    from instances.logs.hub import LogHub

UNTOLD_END_S = 10.0
"""How long after the row says that a run has ended a follower waits for the end record in the stream."""


@dataclass(frozen=True)
class LocalLogs:
    """Where the logs of an instance are when its runs were on this node."""

    node: str
    folder: Path

    def find(self, run: RunInfo) -> Path | None:
        """Return the log file of a run, None when it ran elsewhere."""
        return self.folder / f"{run.id}.log" if run.node == self.node else None


@dataclass
class _Place:
    """Where in which run a follower is."""

    run: RunInfo
    feed: RunFeed
    offset: int
    exit_seen_at: float | None = None
    is_end_told: bool = False

    def cursor_at(self, offset: int) -> Cursor:
        return Cursor(self.run.id, offset)


class Follower:
    """Reads the log of an instance from a position on, run after run; made by `LogHub.follow`.

    `next` gives one item at a time. Whoever does not call it holds up nobody: the follower keeps a position, not a
    queue. Behind the ring of its process it reads the stream in Redis, behind that the file if it is on this node;
    what none of them has any more is told as a gap.
    """

    def __init__(self, hub: LogHub, instance_id: int, logs: LocalLogs) -> None:
        self._hub = hub
        self._logs = logs
        self._wake = asyncio.Event()
        self._queue: deque[Item] = deque()
        self._watch = hub.acquire_watch(instance_id, self._wake.set)
        self._place: _Place | None = None

    def close(self) -> None:
        """Stop following; the last follower of a run ends its reader."""
        self._leave()
        self._hub.release_watch(self._watch, self._wake.set)

    def begin(self, run: RunInfo, offset: int) -> None:
        """Go to a place in a run."""
        self._leave()
        self._place = _Place(run, self._hub.acquire_feed(run.id, self._wake.set), offset)
        self._queue.append(RunBegins(run, Cursor(run.id, offset)))

    def preload(self, segments: Sequence[Segment], runs: Mapping[int, RunInfo]) -> None:
        """Give these records first, oldest first, and go on behind the last."""
        for segment in segments[:-1]:
            run = runs[segment.run_id]
            self._queue.append(RunBegins(run, Cursor(run.id, segment.start)))
            self._queue.extend(_split(segment))
            self._queue.append(RunEnds(run, Cursor(run.id, segment.end)))
        for segment in segments[-1:]:
            self.begin(runs[segment.run_id], segment.start)
            for chunk in _split(segment):
                self._give(chunk)

    async def next(self) -> Item | None:
        """Wait for the next item; None when the instance was deleted and nothing is left."""
        while True:
            self._wake.clear()
            if self._queue:
                return self._queue.popleft()
            place = self._place
            if place is not None and (chunk := place.feed.find_chunk(place.offset)):
                place.offset = chunk.end
                return chunk
            if await self._advance(place):
                continue
            if self._watch.sight and self._watch.sight.state is None:
                return None
            await self._wake.wait()

    async def _advance(self, place: _Place | None) -> bool:
        """Do what is due when the ring has nothing: catch up, go to the next run. Whether anything changed."""
        if place is None:
            following = self._watch.find_next_run(0)
            if following:
                self.begin(following, 0)
            return following is not None
        if not place.feed.is_known:
            return False
        if place.feed.start is not None and place.offset < place.feed.start:
            await self._catch_up(place, place.feed.start)
            return True
        if place.feed.is_ended:
            return self._end_run(place)
        if self._has_untold_end(place):
            return await self._read_file(place) or self._end_run(place)
        return False

    async def _catch_up(self, place: _Place, ring_start: int) -> None:
        """Take the next records from Redis or else from the file, or tell that they are gone."""
        try:
            entries = await read_entries(self._hub.redis, place.run.id, place.offset, count=1)
        except (RedisError, OSError):
            if not await self._read_file(place):
                await asyncio.sleep(RETRY_S)
            return
        entry = entries[0] if entries else None
        if entry and not entry.is_end and entry.start <= place.offset:
            self._give(LogChunk(place.run.id, entry.start, entry.data).cut_from(place.offset))
            return
        available = entry.start if entry else ring_start
        if not await self._read_file(place, until=available):
            self._queue.append(Gap(place.cursor_at(available), available - place.offset))
            place.offset = available

    async def _read_file(self, place: _Place, until: int | None = None) -> bool:
        """Take the next records from the file, if there are any and it is on this node."""
        path = self._logs.find(place.run)
        if path is None:
            return False
        size = MAX_CHUNK if until is None else min(MAX_CHUNK, until - place.offset)
        try:
            start, read = await asyncio.to_thread(read_from, path, place.offset, size)
        except OSError:
            return False
        data = read[: read.rfind(b"\n") + 1]
        if not data or (until is not None and start >= until):
            return False
        if start > place.offset:
            self._queue.append(Gap(place.cursor_at(start), start - place.offset))
        self._give(LogChunk(place.run.id, start, data))
        return True

    def _give(self, chunk: LogChunk) -> None:
        self._queue.append(chunk)
        if self._place is not None:
            self._place.offset = chunk.end

    def _find_run(self, place: _Place) -> RunInfo:
        """Return the newest that is known of the run."""
        return self._watch.sight.runs.get(place.run.id, place.run) if self._watch.sight else place.run

    def _has_untold_end(self, place: _Place) -> bool:
        """Whether the run has ended but its end record won't come: the stream expired, or its writer was killed."""
        if self._find_run(place).exited_at is None or not place.feed.is_connected:
            place.exit_seen_at = None
            return False
        now = asyncio.get_running_loop().time()
        if place.exit_seen_at is None:
            place.exit_seen_at = now
        return place.feed.end is None or now - place.exit_seen_at > UNTOLD_END_S

    def _end_run(self, place: _Place) -> bool:
        """Tell the end of the run once its row tells it too, and go to the next run when there is one."""
        run = self._find_run(place)
        following = self._watch.find_next_run(run.id)
        if run.exited_at is None and following is None:
            return False
        if not place.is_end_told:
            place.is_end_told = True
            self._queue.append(RunEnds(run, place.cursor_at(place.offset)))
        if following:
            self.begin(following, 0)
        return bool(self._queue)

    def _leave(self) -> None:
        if self._place is not None:
            self._hub.release_feed(self._place.feed, self._wake.set)
            self._place = None


def _split(segment: Segment) -> list[LogChunk]:
    chunks = []
    start = 0
    while start < len(segment.data):
        end = segment.data.rfind(b"\n", start, start + MAX_CHUNK) + 1 or len(segment.data)
        chunks.append(LogChunk(segment.run_id, segment.start + start, segment.data[start:end]))
        start = end
    return chunks
