"""Holding what came of a request body until it can go on: little of it in memory, the rest in a temporary file."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import deque
from typing import IO

from gateway.errors import GatewayError

MEMORY_BYTES = 1024 * 1024
_READ_BYTES = 256 * 1024


class Spool:
    """First in, first out. Up to `MEMORY_BYTES` stay in memory; more goes to a file, if it may, by worker threads.

    One coroutine may put while another takes. Each call that is cancelled has taken or put its piece, or hasn't touched
    it. `folder` is where the temporary file lies, the system's place for them when it is None.
    """

    def __init__(self, *, may_use_disk: bool, folder: str | None = None) -> None:
        self._may_use_disk = may_use_disk
        self._folder = folder
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._file: IO[bytes] | None = None
        self._read_at = 0
        self._written_to = 0
        self._writing: asyncio.Future[int] | None = None
        self._failure: GatewayError | None = None
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._is_closed = False

    @property
    def is_on_disk(self) -> bool:
        """Whether a part lies in the file."""
        return self._writing is not None or self._read_at < self._written_to

    def put(self, piece: bytes) -> None:
        """Add a piece; `settle` must follow."""
        if piece:
            self._tail.append(piece)
            self._tail_bytes += len(piece)
            if self._tail_bytes >= MEMORY_BYTES and not self._may_use_disk:
                self._has_room.clear()

    async def settle(self) -> None:
        """Return when there's room for the next piece. Raises `GatewayError` 503 when the file can't be written."""
        await self._finish_writing()
        if not self._may_use_disk:
            await self._has_room.wait()
        elif self._tail_bytes >= MEMORY_BYTES:
            batch, self._tail, self._tail_bytes = self._tail, deque(), 0
            self._writing = asyncio.get_running_loop().run_in_executor(None, self._write, batch, self._written_to)
            self._writing.add_done_callback(self._note_written)
            await self._finish_writing()

    async def take(self) -> bytes | None:
        """The next piece; None when none is held. Raises `GatewayError` 503 when the file can't be written or read."""
        await self._finish_writing()
        if self._read_at < self._written_to and self._file is not None:
            size = min(_READ_BYTES, self._written_to - self._read_at)
            loop = asyncio.get_running_loop()
            try:
                piece = await loop.run_in_executor(None, os.pread, self._file.fileno(), size, self._read_at)
            except OSError as error:
                raise _storage_failed(error) from error
            self._read_at += len(piece)
            return piece
        return self.take_from_memory()

    def take_from_memory(self) -> bytes | None:
        """The next piece; None when none is held. Nothing may be on disk."""
        if not self._tail:
            return None
        piece = self._tail.popleft()
        self._tail_bytes -= len(piece)
        self._has_room.set()
        return piece

    def close(self) -> None:
        """Forget everything and remove the file."""
        self._is_closed = True
        self._tail.clear()
        if self._writing is None:
            self._remove_file()

    async def _finish_writing(self) -> None:
        writing = self._writing
        if writing is not None:
            await asyncio.wait((writing,))
            self._note_written(writing)
        if self._failure is not None:
            raise self._failure

    def _write(self, batch: deque[bytes], place: int) -> int:
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0, dir=self._folder, prefix="corral-upload-")  # noqa: SIM115
        size = 0
        for piece in batch:
            rest = memoryview(piece)
            while rest:
                written = os.pwrite(self._file.fileno(), rest, place + size)
                size += written
                rest = rest[written:]
        return size

    def _note_written(self, writing: asyncio.Future[int]) -> None:
        if self._writing is not writing:
            return
        self._writing = None
        error = writing.exception()
        if error is None:
            self._written_to += writing.result()
        else:
            self._failure = _storage_failed(error)
        if self._is_closed:
            self._remove_file()

    def _remove_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            # Giving up a large file's blocks may take a while.
            asyncio.get_running_loop().run_in_executor(None, file.close)


def _storage_failed(error: BaseException) -> GatewayError:
    reason = getattr(error, "strerror", None) or str(error)
    message = f"The upload can't be held until its instance is ready: its temporary file failed ({reason})"
    return GatewayError(503, "upload_storage_failed", message, retry_after_s=30)
