"""Copies the log of a run from its file into its Redis Stream, where web processes on any host follow it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import redis.asyncio
from redis.exceptions import RedisError

from instances.logs.cancellation import wait_briefly
from instances.logs.files import last_lines
from instances.logs.growing import GrowingLog
from instances.logs.parts import list_parts, read_from
from instances.logs.stream import KEPT_BYTES, MAX_CHUNK, StreamWriter

__all__ = ["LogPump", "last_lines"]

logger = logging.getLogger(__name__)

ACTIVE_POLL_S = 0.05
QUIET_POLL_S = 0.25
QUIET_AFTER_S = 2.0
CHECK_S = 5.0
RETRY_S = 0.5


class LogPump:
    """Tails the log of one run; for use in one event loop.

    The stream itself is the memory of how far the copy got: a new pump goes on where the old one stopped, a write whose
    answer was lost is not repeated, and a Redis that comes back empty is filled with the last 8 MiB again. Nothing is
    held in memory but one chunk.
    """

    def __init__(self, redis: redis.asyncio.Redis, run_id: int, path: Path) -> None:
        self._stream = StreamWriter(redis, run_id)
        self._reader = GrowingLog(path, MAX_CHUNK)
        self._run_id = run_id
        self._path = path
        self._after: int | None = None
        """Where the stream ends as far as this pump knows."""
        self._is_placed = False
        self._is_finished = False
        self._finishing = asyncio.Event()
        self._lock = asyncio.Lock()

    async def run(self) -> None:
        """Copy until `finish` is called or the task is cancelled. Neither disk nor Redis errors end it."""
        try:
            await self._copy_until_finishing()
        finally:
            self._reader.close()

    async def finish(self, timeout_s: float = 60.0) -> bool:
        """Copy the rest of the log, tell followers that it is complete, and let the stream expire in an hour.

        To be called once the run has ended and its file is complete; ends `run`. Tries again while Redis is away;
        False when that took longer than ``timeout_s``: followers then learn of the end from the run's row.
        """
        self._finishing.set()
        try:
            async with asyncio.timeout(timeout_s), self._lock:
                while not self._is_finished:
                    try:
                        self._is_placed = False
                        await self._copy_available()
                        if rest := self._reader.take_rest():
                            await self._append(*rest)
                        await self._stream.close(self._after or 0)
                        self._is_finished = True
                    except (RedisError, OSError) as error:
                        self._note_trouble(error)
                        await asyncio.sleep(RETRY_S)
        except TimeoutError:
            logger.warning("run %d: the end of its log did not get into Redis", self._run_id)
        finally:
            self._reader.close()
        return self._is_finished

    async def _copy_until_finishing(self) -> None:
        loop = asyncio.get_running_loop()
        moved_at = checked_at = loop.time()
        while not self._finishing.is_set():
            pause = ACTIVE_POLL_S if loop.time() - moved_at < QUIET_AFTER_S else QUIET_POLL_S
            try:
                async with self._lock:
                    if loop.time() - checked_at > CHECK_S:
                        checked_at = loop.time()
                        self._is_placed = False
                    if await self._copy_available():
                        moved_at = loop.time()
            except (RedisError, OSError) as error:
                self._note_trouble(error)
                pause = RETRY_S
            await wait_briefly(self._finishing, pause)

    async def _copy_available(self) -> bool:
        """Copy what the file holds beyond the stream; return whether there was anything."""
        if not self._is_placed:
            await self._find_place()
        moved = False
        while chunk := await self._read():
            await self._append(*chunk)
            moved = True
        return moved

    async def _read(self) -> tuple[int, bytes] | None:
        if self._reader.is_open:
            return self._reader.read()  # what was written a moment ago is in memory still
        opening = asyncio.ensure_future(asyncio.to_thread(self._reader.read))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            await asyncio.wait({opening})  # or the thread would open the file after it was closed
            raise

    async def _append(self, start: int, data: bytes) -> None:
        self._is_placed = False  # until the answer is here, it is not known whether the bytes were added
        end = await self._stream.append(self._after, start, data)
        self._after = end
        if end == start + len(data):
            self._is_placed = True
        else:
            await self._find_place()

    async def _find_place(self) -> None:
        """Go on where the stream ends; when it is gone, at most 8 MiB before the end of the file."""
        self._after = await self._stream.find_end()
        if self._after is None:
            offset = await asyncio.to_thread(_find_line_start, self._path, KEPT_BYTES)
            self._reader.move_to(offset)
        else:
            self._reader.move_to(self._after)
        self._is_placed = True

    def _note_trouble(self, error: Exception) -> None:
        logger.warning("run %d: its log does not get into Redis, trying again: %s", self._run_id, error)


def _find_line_start(path: Path, kept: int) -> int:
    """Return the offset of the first record among the last ``kept`` bytes of a log; 0 when there is no log yet."""
    parts = list_parts(path)
    if not parts:
        return 0
    wanted = parts[-1].end - kept
    if wanted <= parts[0].start:
        return parts[0].start
    offset, data = read_from(path, wanted - 1, MAX_CHUNK)
    return offset + data.find(b"\n") + 1
