"""The archive: ``<data folder>/logs/<instance>/<run id>.log`` and its rotated parts, on the engine's node."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from instances.domain.names import check_name
from instances.logs.errors import LogUnavailable
from instances.logs.parts import Part, list_parts, read_backwards
from instances.logs.records import Decoder, count_lines, find_last_lines, join_pieces

MAX_TAIL = 16 * 2**20
"""Most bytes of log that one look takes into memory."""

_ATTEMPTS = 5
_LOG_FILE = re.compile(r"([1-9][0-9]*)\.log(?:\.[0-9]+(?:\.gz(?:\.tmp)?)?)?", re.ASCII)


@dataclass(frozen=True)
class Segment:
    """Consecutive whole records of one run; ``start`` is the offset of the first."""

    run_id: int
    start: int
    data: bytes

    @property
    def end(self) -> int:
        """Offset behind the last byte."""
        return self.start + len(self.data)


@dataclass(frozen=True)
class Tail:
    """The end of an instance's log, oldest segment first. ``left_out`` bytes before it were not read for their size."""

    segments: list[Segment]
    left_out: int = 0


def log_folder(name: str) -> Path:
    """Return the folder of an instance's logs, which may not exist.

    Raises InvalidName for a name that breaks the rule and LogUnavailable when the folder leads out of the logs folder.
    """
    check_name(name)
    root = (settings.CORRAL.data_dir / "logs").resolve()
    folder = root / name
    if folder.resolve() != folder:
        raise LogUnavailable(f"Failed to get logs: the folder of {name} leads out of the logs folder.")
    return folder


def log_path(name: str, run_id: int) -> Path:
    """Return the live log file of a run. Raises as `log_folder` does."""
    return log_folder(name) / f"{run_id}.log"


def list_runs(folder: Path) -> list[int]:
    """Return the ids of the runs that have a log in this folder, oldest first."""
    if not folder.is_dir():
        return []
    matches = (_LOG_FILE.fullmatch(entry.name) for entry in folder.iterdir())
    return sorted({int(match[1]) for match in matches if match})


def read_tail(folder: Path, *, lines: int | None, stream: str | None = None, max_bytes: int = MAX_TAIL) -> Tail:
    """Return the last lines of an instance's log, over rotated parts and, when those are too few, earlier runs.

    ``lines`` None means all that is kept. Never more than ``max_bytes``: what is left out then is counted in the
    answer. Files are read from their end, so a long log costs no more than a short one. Raises LogUnavailable when the
    disk refuses.
    """
    segments: deque[Segment] = deque()
    missing, room = lines, max_bytes
    for run_id in reversed(list_runs(folder)):
        if missing == 0:
            break
        path = folder / f"{run_id}.log"
        try:
            segment, older = _read_run_tail(path, run_id, missing, stream, room)
        except OSError as error:
            raise LogUnavailable(f"Failed to get logs: {error.strerror or error}") from error
        if segment.data:
            segments.appendleft(segment)
        room -= len(segment.data)
        if older:
            return Tail(list(segments), older)
        if missing is not None:
            missing -= count_lines(segment.data, stream)
    return Tail(list(segments))


def _read_run_tail(path: Path, run_id: int, lines: int | None, stream: str | None, room: int) -> tuple[Segment, int]:
    """Return the tail of one run, and how many bytes of the run before it did not fit into ``room``."""
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(FileNotFoundError):  # renamed or packed while it was read: look again
            return _try_run_tail(path, run_id, lines, stream, room)
    raise OSError(f"the log of run {run_id} is rotated faster than it can be read")


def _try_run_tail(path: Path, run_id: int, lines: int | None, stream: str | None, room: int) -> tuple[Segment, int]:
    parts = list_parts(path)
    if not parts:
        return Segment(run_id, 0, b""), 0
    blocks: deque[bytes] = deque()
    start, size, found = parts[-1].end, 0, 0
    for block_start, read in _iterate_backwards(parts):
        if block_start + len(read) != start:
            break  # a part between this one and the next was deleted
        # The very last record may still be being written.
        block = read if size else read[: read.rfind(b"\n") + 1]
        blocks.appendleft(block)
        start, size = block_start, size + len(block)
        found += block.count(b"\n") if stream is None else count_lines(block, stream)
        # Blocks are not cut at line ends and pieces end no line, so this only says when an exact count is worth it.
        if lines is not None and found > lines:
            data = b"".join(blocks)
            skip = data.find(b"\n") + 1 if start > parts[0].start else 0
            begin, found = find_last_lines(data[skip:], lines, stream)
            if begin:
                return Segment(run_id, start + skip + begin, data[skip + begin :]), 0
        if size > room:
            data = b"".join(blocks)
            begin = data.find(b"\n", size - room) + 1 or size
            return Segment(run_id, start + begin, data[begin:]), start + begin - parts[0].start
    return Segment(run_id, start, b"".join(blocks)), 0


def _iterate_backwards(parts: list[Part]) -> Iterator[tuple[int, bytes]]:
    for part in reversed(parts):
        yield from read_backwards(part)


def last_lines(path: Path, lines: int, max_bytes: int = 256 * 1024) -> list[str]:
    """Return the last whole lines of one run, for the reason of a failure; empty when the log can't be read."""
    try:
        segment, _ = _read_run_tail(path, 0, lines, None, max_bytes)
    except OSError:
        return []
    return [line.text for line in join_pieces(Decoder().decode(segment.data))][-lines:]


def prune_logs(name: str, keep: int) -> int:
    """Delete the logs of an instance's runs except the newest ``keep`` (at least 1); return how many runs went."""
    folder = log_folder(name)
    old = set(list_runs(folder)[: -max(keep, 1)])
    for entry in list(folder.iterdir()) if old else []:
        match = _LOG_FILE.fullmatch(entry.name)
        if match and int(match[1]) in old:
            entry.unlink(missing_ok=True)
    return len(old)


def delete_logs(name: str) -> None:
    """Delete all logs of an instance; one without logs is fine. Raises OSError when the disk refuses."""
    folder = log_folder(name)
    if folder.is_dir():
        shutil.rmtree(folder)
