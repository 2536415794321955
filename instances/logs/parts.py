"""The log of one run as one sequence of bytes, whatever parts its rotation has made of it.

``<run id>.log`` is the live file, ``<run id>.log.<start offset>`` a rotated part, ``….gz`` a compressed one. Offsets
count uncompressed bytes from the beginning of the run. The shim renames and compresses while others read; what
is here copes with a file that goes away under it.
"""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

BLOCK = 64 * 1024
_ATTEMPTS = 5
_PACKED_BLOCKS = 32 * 2**20 // BLOCK


@dataclass(frozen=True)
class Part:
    """One file of a log: the bytes from ``start`` to ``end``."""

    path: Path
    start: int
    end: int
    inode: int

    @property
    def is_compressed(self) -> bool:
        """Whether the file must be unpacked to be read."""
        return self.path.suffix == ".gz"


def list_parts(path: Path) -> list[Part]:
    """Return the parts of the log whose live file is ``path``, oldest first; empty when there is none.

    Raises OSError when the folder can't be read.
    """
    for _ in range(_ATTEMPTS):
        live = _stat(path)
        rotated = _list_rotated(path)
        # A rotation between the two looks would give the live file the wrong start.
        if rotated is None or _inode(_stat(path)) != _inode(live):
            continue
        if live is not None:
            start = rotated[-1].end if rotated else 0
            rotated.append(Part(path, start, start + live.st_size, live.st_ino))
        return rotated
    raise OSError(f"the parts of {path.name} change faster than they can be read")


def read_part(part: Part, offset: int, size: int) -> bytes:
    """Return up to ``size`` bytes from ``offset`` on. Raises FileNotFoundError when the part was renamed or deleted."""
    with closing(open_part(part)) as file:
        file.seek(offset - part.start)
        return file.read(min(size, part.end - offset))


def read_from(path: Path, offset: int, size: int) -> tuple[int, bytes]:
    """Return the bytes from ``offset`` on, at most ``size`` and from one part, and the offset they begin at.

    That offset is larger than the one asked for when older parts are gone. No bytes: the end is reached.
    """
    for _ in range(_ATTEMPTS):
        try:
            for part in list_parts(path):
                if offset < part.end:
                    start = max(offset, part.start)
                    return start, read_part(part, start, size)
            return offset, b""
        except FileNotFoundError:
            continue  # rotated or compressed meanwhile: the next look finds it under its new name
    return offset, b""


def read_backwards(part: Part) -> Iterator[tuple[int, bytes]]:
    """Yield the blocks of a part with their offsets, last one first. Raises FileNotFoundError when it is gone.

    Of a compressed part no more than the last 32 MiB are yielded.
    """
    with closing(open_part(part)) as file:
        if part.is_compressed:
            yield from _read_packed_backwards(file, part.start)
            return
        position = part.end
        while position > part.start:
            start = max(part.start, position - BLOCK)
            file.seek(start - part.start)
            yield start, file.read(position - start)
            position = start


def _read_packed_backwards(file: IO[bytes], start: int) -> Iterator[tuple[int, bytes]]:
    """Unpack from the beginning, there is no other way, and keep the end, packed again block by block."""
    kept: deque[tuple[int, bytes]] = deque(maxlen=_PACKED_BLOCKS)
    while block := file.read(BLOCK):
        kept.append((start, zlib.compress(block, 1)))
        start += len(block)
    while kept:
        offset, packed = kept.pop()
        yield offset, zlib.decompress(packed)


def open_part(part: Part) -> IO[bytes]:
    """Open the file of a part, unbuffered. Raises FileNotFoundError when it was renamed or deleted meanwhile."""
    if part.is_compressed:
        return cast("IO[bytes]", gzip.open(part.path, "rb"))
    file = part.path.open("rb", buffering=0)
    if os.fstat(file.fileno()).st_ino != part.inode:
        file.close()
        raise FileNotFoundError(part.path)
    return file


def _list_rotated(path: Path) -> list[Part] | None:
    """Return the rotated parts, oldest first; None when one vanished during the look."""
    prefix = f"{path.name}."
    found: dict[int, Path] = {}
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except FileNotFoundError:
        return []
    for name in names:
        offset = name.removeprefix(prefix).removesuffix(".gz")
        if not (name.startswith(prefix) and offset.isascii() and offset.isdigit()):
            continue
        # While a part is being packed both files exist for a moment: the plain one is cheaper to read.
        if int(offset) not in found or not name.endswith(".gz"):
            found[int(offset)] = path.parent / name
    parts = []
    for start, file in sorted(found.items()):
        status = _stat(file)
        if status is None:
            return None
        size = _read_unpacked_size(file) if file.suffix == ".gz" else status.st_size
        if size is None:
            return None
        parts.append(Part(file, start, start + size, status.st_ino))
    return parts


def _read_unpacked_size(path: Path) -> int | None:
    """Return ISIZE, the last field of a gzip file (RFC 1952, 2.3.1); parts are far below the 4 GiB where it wraps."""
    try:
        with path.open("rb") as file:
            file.seek(-4, os.SEEK_END)
            return int(struct.unpack("<I", file.read(4))[0])
    except FileNotFoundError:
        return None


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _inode(status: os.stat_result | None) -> int | None:
    return None if status is None else status.st_ino
