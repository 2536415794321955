"""A log that is still being written, read in order over its rotations."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from instances.logs.parts import list_parts, open_part

_ATTEMPTS = 5


class GrowingLog:
    """Yields the log of a run in chunks of whole records. Not for use by two threads at once.

    The opened file is kept: the shim renames it when it rotates and never writes to it again, so at its end under
    another name the log goes on in the next file.
    """

    def __init__(self, path: Path, chunk_bytes: int) -> None:
        self._path = path
        self._chunk_bytes = chunk_bytes
        self._offset = 0
        self._pending = b""
        """Read from the file but not handed out: the beginning of a record; ``_offset`` is its place."""
        self._file: IO[bytes] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the next read goes to a file that is open already."""
        return self._file is not None

    def move_to(self, offset: int) -> None:
        """Read on from this offset."""
        if offset != self._offset:
            self.close()
            self._offset = offset

    def close(self) -> None:
        """Close the file; reading opens it again at the same place."""
        self._pending = b""
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self) -> tuple[int, bytes] | None:
        """Return the next chunk and its offset, None when there is no further whole record now.

        The offset jumps when parts were deleted before they were read. Raises OSError.
        """
        while file := self._file or self._open():
            if chunk := self._read_chunk(file):
                return chunk
            if not self._is_renamed(file):
                return None
            # The last records may have come between that read and the renaming.
            if chunk := self._read_chunk(file) or self.take_rest():
                return chunk
            self.close()
        return None

    def take_rest(self) -> tuple[int, bytes] | None:
        """Return what is left of a last record that nobody will finish, None when there is nothing."""
        return self._take(len(self._pending)) if self._pending else None

    def _read_chunk(self, file: IO[bytes]) -> tuple[int, bytes] | None:
        new = file.read(self._chunk_bytes - len(self._pending))
        if not new:
            return None
        self._pending += new
        cut = self._pending.rfind(b"\n") + 1
        if not cut and len(self._pending) == self._chunk_bytes:
            cut = len(self._pending)  # no shim writes records this long; whatever it is, it must get through
        return self._take(cut) if cut else None

    def _take(self, size: int) -> tuple[int, bytes]:
        offset, data = self._offset, self._pending[:size]
        self._pending = self._pending[size:]
        self._offset += size
        return offset, data

    def _is_renamed(self, file: IO[bytes]) -> bool:
        try:
            return self._path.stat().st_ino != os.fstat(file.fileno()).st_ino
        except FileNotFoundError:
            return True

    def _open(self) -> IO[bytes] | None:
        """Open the file that holds the offset, or the live one; None when there is nothing beyond the offset."""
        for _ in range(_ATTEMPTS):
            parts = [part for part in list_parts(self._path) if self._offset < part.end or part.path == self._path]
            if not parts:
                return None
            try:
                file = open_part(parts[0])
            except FileNotFoundError:
                continue  # rotated or compressed this very moment
            self._offset = max(self._offset, parts[0].start)
            file.seek(self._offset - parts[0].start)
            self._file = file
            return file
        raise OSError(f"{self._path.name} is renamed faster than it can be opened")
