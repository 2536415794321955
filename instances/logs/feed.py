"""One reader of a run's stream in Redis for all its followers in a process."""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections.abc import Callable

import redis.asyncio
from redis.exceptions import RedisError

from instances.logs.items import LogChunk
from instances.logs.stream import Entry, read_last_entry, read_new_entries

logger = logging.getLogger(__name__)

RING_BYTES = 4 * 2**20
RING_CHUNKS = 1024
BLOCK_MS = 2000
RETRY_S = 0.25


class RunFeed:
    """Keeps the newest chunks of a run's log in a ring; followers read it at their own pace.

    A follower that falls behind the ring reads Redis or the file by itself, so nobody waits for anybody and memory is
    bounded by the ring, whatever the number of followers.
    """

    def __init__(self, client: redis.asyncio.Redis, run_id: int) -> None:
        self.run_id = run_id
        self.is_known = False
        """Whether Redis has been asked where the stream ends."""
        self.is_connected = False
        self.is_ended = False
        """Whether the end record was read: nothing follows ``end``."""
        self.end: int | None = None
        """Offset behind the newest byte that was read; None while there is no stream."""
        self.listeners: set[Callable[[], None]] = set()
        self._client = client
        self._chunks: list[LogChunk] = []

    @property
    def start(self) -> int | None:
        """Offset of the oldest byte in the ring; None while there is no stream."""
        return self._chunks[0].start if self._chunks else self.end

    def find_chunk(self, offset: int) -> LogChunk | None:
        """Return the records in the ring from the offset on, as far as one chunk goes; None when it holds none."""
        if self.end is None or offset >= self.end or not self._chunks or offset < self._chunks[0].start:
            return None
        index = bisect_right(self._chunks, offset, key=lambda chunk: chunk.start) - 1
        return self._chunks[index].cut_from(offset)

    async def run(self) -> None:
        """Read until the log has ended or the task is cancelled; a Redis that is away is asked again."""
        while not self.is_ended:
            try:
                if not self.is_known:
                    self._take_place(await read_last_entry(self._client, self.run_id))
                    continue
                entries = await read_new_entries(self._client, self.run_id, self.end or 0, BLOCK_MS)
            except (RedisError, OSError) as error:
                if self.is_connected:
                    logger.warning("run %d: its log stream can't be read, trying again: %s", self.run_id, error)
                self.is_connected = False
                await asyncio.sleep(RETRY_S)
                continue
            self.is_connected = True
            if entries:
                self._add(entries)
                self._wake_listeners()

    def _take_place(self, last: Entry | None) -> None:
        self.is_known = self.is_connected = True
        if last is not None:
            self.end = last.end
            self.is_ended = last.is_end
        self._wake_listeners()

    def _add(self, entries: list[Entry]) -> None:
        for entry in entries:
            end = -1 if self.end is None else self.end
            if entry.is_end:
                self.is_ended = True
            elif entry.end <= end:
                continue
            if entry.start > end:
                # Entries are missing in between; followers before this place look for them elsewhere.
                self._chunks.clear()
            if entry.data:
                self._chunks.append(LogChunk(self.run_id, entry.start, entry.data).cut_from(end))
            self.end = max(entry.end, end)
        self._trim()

    def _trim(self) -> None:
        cost = 0
        for index in range(len(self._chunks) - 1, 0, -1):
            cost += self._chunks[index].cost
            if cost > RING_BYTES or len(self._chunks) - index >= RING_CHUNKS:
                del self._chunks[:index]
                return

    def _wake_listeners(self) -> None:
        for listener in list(self.listeners):
            listener()
