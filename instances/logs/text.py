"""Logs as plain text, with llamactl's markers between the runs of an instance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone

from instances.logs.files import Tail
from instances.logs.records import Decoder, Line, join_pieces


@dataclass(frozen=True)
class RunInfo:
    """What readers know of a run. ``exited_at`` empty: its log may still grow."""

    id: int
    node: str
    started_at: datetime | None
    exited_at: datetime | None


def format_marker(name: str, word: str, moment: datetime) -> str:
    """Return llamactl's marker; ``word`` is started or stopped, the time is shown in the zone of the pages."""
    return f"=== Instance {name} {word} at {timezone.localtime(moment):%Y-%m-%d %H:%M:%S} ==="


def format_line(line: Line, *, timestamps: bool) -> str:
    """Return one line as shown, without its end."""
    return f"{line.time} {line.text}" if timestamps and line.time else line.text


def format_tail(
    name: str, tail: Tail, runs: Mapping[int, RunInfo], *, lines: int | None, stream: str | None, timestamps: bool
) -> str:
    """Return the end of a log as text: lines joined by line feeds, none at the end.

    The runs read as one file in the manner of llamactl: a marker where a run began and where it ended, an empty line
    between them. Markers count as lines; they belong to no stream, so choosing a stream leaves them away. When lines
    had to be left out for their size, the first line says so.
    """
    shown: list[str] = []
    for segment in tail.segments:
        run = runs.get(segment.run_id)
        if stream is None and run and run.started_at and segment.start == 0:
            shown += [""] if shown else []
            shown.append(format_marker(name, "started", run.started_at))
        decoded = join_pieces(Decoder().decode(segment.data, stream))
        shown += [format_line(line, timestamps=timestamps) for line in decoded]
        if stream is None and run and run.exited_at:
            shown.append(format_marker(name, "stopped", run.exited_at))
    enough = lines is not None and len(shown) >= lines
    if lines is not None:
        shown = shown[-lines:]
    if tail.left_out and not enough:
        shown.insert(0, f"=== {tail.left_out} bytes of older log are left out ===")
    return "\n".join(shown)


class TextWriter:
    """Writes lines and pieces one after the other as a terminal would show them; one for each reader.

    A piece is written without a line end. When the other stream speaks before the line is finished, the line is broken
    there, since text that was sent can't be taken back.
    """

    def __init__(self, *, timestamps: bool) -> None:
        self._timestamps = timestamps
        self._open = ""

    @property
    def is_at_line_start(self) -> bool:
        """Whether the last line that was written is complete."""
        return not self._open

    def write(self, lines: list[Line]) -> str:
        """Return the text for these lines."""
        texts = []
        for line in lines:
            goes_on = self._open == line.stream and self._open != ""
            if self._open and not goes_on:
                texts.append("\n")
            texts.append(line.text if goes_on else format_line(line, timestamps=self._timestamps))
            if not line.is_piece:
                texts.append("\n")
            self._open = line.stream if line.is_piece else ""
        return "".join(texts)

    def write_own_line(self, text: str) -> str:
        """Return a line that is not the engine's (a marker, a note about a gap)."""
        start = "\n" if self._open else ""
        self._open = ""
        return f"{start}{text}\n"


HISTORY_BYTES = 100 * 1024
"""How much older log the log routes at the root give first, as llama-swap does."""


def cut_history(text: str) -> str:
    """Return the end of a text: whole lines of at most 100 KiB, or the end of a last line that is longer."""
    data = text.encode()
    if len(data) <= HISTORY_BYTES:
        return text
    cut = len(data) - HISTORY_BYTES
    start = data.find(b"\n", cut - 1) + 1
    if start in (0, len(data)):
        start = cut
    return data[start:].decode("utf-8", "ignore")
