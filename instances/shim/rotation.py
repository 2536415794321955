"""The files of a log: the live one and its rotated parts.

``<log>`` is written; at the size limit it is renamed to ``<log>.<offset>``, the offset being the position of its first
byte in the whole log of the run (uncompressed bytes; the live file begins where the newest part ends). Compressed parts
carry ``.gz`` after that. A limit is kept unless one batch of records alone is larger.
"""

from __future__ import annotations

import os
import signal
import zlib

from instances.shim.processes import die_with_parent

FILE_MODE = 0o640
_CHUNK = 64 * 1024


class Rotation:
    """The live file and its rotation."""

    def __init__(self, path: str, max_bytes: int, max_files: int, compress: bool) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._compress = compress
        self._descriptor: int | None = None
        self._size = 0
        self._start = 0
        self._waiting: list[str] = []
        self._compressing = ""
        self.compressor_pid: int | None = None

    def write(self, data: memoryview) -> int:
        """Append to the live file; the number of bytes taken. Raises OSError when the disk refuses."""
        if self._descriptor is None:
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, FILE_MODE)
            self._size = os.fstat(self._descriptor).st_size
        written = os.write(self._descriptor, data)
        self._size += written
        return written

    def make_room(self, size: int) -> None:
        """Rotate when `size` more bytes don't fit in the live file. A file that can't be renamed just grows on."""
        if not self._max_bytes or not self._size or self._size + size <= self._max_bytes:
            return
        part = f"{self._path}.{self._start}"
        try:
            os.rename(self._path, part)
        except FileNotFoundError:
            # Somebody deleted the live file: the next one begins where it would have ended.
            part = ""
        except OSError:
            return
        self.close()
        self._start += self._size
        self._size = 0
        if self._compress and part:
            self._waiting.append(part)
            self.start_compressing()
        self._delete_oldest()

    def close(self) -> None:
        """Close the live file; a later write opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _delete_oldest(self) -> None:
        if not self._max_files:
            return
        folder, name = os.path.split(self._path)
        parts = []
        for entry in os.listdir(folder):
            offset = entry.removeprefix(f"{name}.").removesuffix(".gz")
            if offset.isdigit() and entry.startswith(f"{name}."):
                parts.append((int(offset), entry))
        for _, entry in sorted(parts)[: -self._max_files]:
            try:
                os.unlink(os.path.join(folder, entry))
            except OSError:
                # The next rotation tries again.
                continue

    def start_compressing(self) -> None:
        """Compress the next rotated part in a process of low priority, one at a time."""
        while self.compressor_pid is None and self._waiting:
            self._compressing = self._waiting.pop(0)
            shim_pid = os.getpid()
            self.compressor_pid = os.fork() or _compress_and_exit(self._compressing, shim_pid)

    def finish_compressing(self, succeeded: bool) -> None:
        """Put the compressed part in the place of the plain one; call it when the compressor has ended."""
        temporary = f"{self._compressing}.gz.tmp"
        self.compressor_pid = None
        try:
            # The part may have been deleted as the oldest meanwhile.
            if succeeded and os.path.exists(self._compressing):
                os.rename(temporary, f"{self._compressing}.gz")
                os.unlink(self._compressing)
            elif os.path.exists(temporary):
                os.unlink(temporary)
        except OSError:
            # Plain parts are as good to a reader; what matters is the next one.
            self._compressing = ""
        self.start_compressing()


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, FILE_MODE)


def _compress_and_exit(path: str, shim_pid: int) -> int:
    """Write `path`.gz.tmp and leave the process: 0 = complete."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        die_with_parent(shim_pid)
        os.nice(19)
        packer = zlib.compressobj(6, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
        with open(path, "rb") as source, open(f"{path}.gz.tmp", "wb", opener=_open_private) as target:
            while chunk := source.read(_CHUNK):
                target.write(packer.compress(chunk))
            target.write(packer.flush())
        status = 0
    finally:
        os._exit(status)
