"""Records of a run's log and positions in it.

A record is a line in the CRI log format of Kubernetes: ``<RFC 3339 time> stdout|stderr F|P <text>``. ``P`` marks
a piece of a line that goes on in the next record of the same stream. Everything here works on bytes, many records at a
time, because one busy engine writes ten thousand of them a second.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

STREAMS = ("stdout", "stderr")
MAX_OFFSET = 2**53
"""Offsets travel through JSON and JavaScript, which hold whole numbers exactly only up to here."""

_RECORD = re.compile(rb"^(?:(\d{4}-\d\d-\d\dT\S{1,30}) (stdout|stderr) ([FP]) )?(.*)$", re.MULTILINE)
_PIECE = re.compile(rb"^\S{20,40} std(?:out|err) P ", re.MULTILINE)
_CURSOR = re.compile(r"([1-9][0-9]{0,17}):(0|[1-9][0-9]{0,15})", re.ASCII)


class InvalidCursor(ValueError):
    """The text is not a cursor."""


@dataclass(frozen=True, order=True)
class Cursor:
    """A position: the run and the number of bytes of its log (over all rotated parts) that lie before it."""

    run_id: int
    offset: int

    def __str__(self) -> str:
        return f"{self.run_id}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read ``12:3456``. Raises InvalidCursor."""
        match = _CURSOR.fullmatch(text)
        if match is None or int(match[2]) > MAX_OFFSET:
            raise InvalidCursor(f"{text!r} is not a cursor; it looks like 12:3456, a run and a byte offset.")
        return cls(int(match[1]), int(match[2]))


class Line(NamedTuple):
    """A line, or a piece of one. ``time`` is empty for text that is no record (a line torn by a full disk)."""

    stream: str
    time: str
    text: str
    is_piece: bool = False
    """The line goes on in the next entry of the same stream."""


def format_record(time: bytes, stream: bytes, text: bytes, *, is_piece: bool = False) -> bytes:
    """Return one record with its line end."""
    return b"%b %b %b %b\n" % (time, stream, b"P" if is_piece else b"F", text)


def has_pieces(data: bytes) -> bool:
    """Whether whole records hold a piece of a line."""
    return b" P " in data and _PIECE.search(data) is not None


def count_lines(data: bytes, stream: str | None = None) -> int:
    """Count the lines that end in these whole records, of one stream or of both."""
    if not data:
        return 0
    wanted = stream.encode() if stream else None
    return sum(_ends_line(groups, wanted) for groups in _RECORD.findall(data.removesuffix(b"\n")))


def find_last_lines(data: bytes, lines: int, stream: str | None = None) -> tuple[int, int]:
    """Return where the last ``lines`` (at least 1) of these whole records' lines begin, and how many there are."""
    wanted = stream.encode() if stream else None
    position = len(data)
    found = 0
    beginning = position
    while position > 0:
        start = data.rfind(b"\n", 0, position - 1) + 1
        match = _RECORD.match(data, start, position - 1 if data[position - 1] == 0x0A else position)
        if match is not None and _ends_line(match.groups(), wanted):
            found += 1
            if found > lines:
                return beginning, lines
        beginning = position = start
    return 0, found


def _ends_line(groups: Sequence[bytes | None], wanted: bytes | None) -> bool:
    """Whether a record, as matched, is the end of a line of the wanted stream; an empty non-record is nothing."""
    _, name, flag, text = groups
    return flag != b"P" and (wanted is None or name == wanted) and bool(name or text)


class Decoder:
    """Turns consecutive records of one run into lines of text; one for each reader.

    Text is decoded as UTF-8, what is not becomes U+FFFD. A character that a cut between two pieces divides is carried
    from one call to the next, so it arrives whole.
    """

    def __init__(self) -> None:
        self._carried: dict[bytes, bytes] = {}

    @property
    def is_clean(self) -> bool:
        """Whether nothing is carried, so that any decoder would read on in the same way."""
        return not self._carried

    def decode(self, data: bytes, stream: str | None = None) -> list[Line]:
        """Return the lines and pieces in whole records, of one stream or of both."""
        if not data:
            return []
        wanted = stream.encode() if stream else None
        lines = []
        for time, name, flag, text in _RECORD.findall(data.removesuffix(b"\n")):
            if wanted is not None and name != wanted:
                continue
            if flag == b"P":
                lines.append(Line(name.decode(), time.decode(), self._decode_piece(name, text), is_piece=True))
                continue
            whole = self._carried.pop(name, b"") + text if self._carried else text
            if name or whole:
                lines.append(Line(name.decode(), time.decode(), whole.decode("utf-8", "replace")))
        return lines

    def _decode_piece(self, name: bytes, text: bytes) -> str:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        decoded = decoder.decode(self._carried.pop(name, b"") + text)
        if rest := decoder.getstate()[0]:
            self._carried[name] = rest
        return decoded


def join_pieces(lines: list[Line]) -> list[Line]:
    """Return whole lines: pieces are joined where the line began, a line without an end counts as it is."""
    joined: list[Line] = []
    parts: dict[int, list[str]] = {}
    unfinished: dict[str, int] = {}
    for line in lines:
        place = unfinished.get(line.stream)
        if place is None:
            if line.is_piece:
                unfinished[line.stream] = len(joined)
                parts[len(joined)] = [line.text]
            joined.append(line)
        else:
            parts[place].append(line.text)
            if not line.is_piece:
                del unfinished[line.stream]
    for place, texts in parts.items():
        joined[place] = joined[place]._replace(text="".join(texts), is_piece=False)
    return joined
