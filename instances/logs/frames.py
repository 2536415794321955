"""What goes over the wire to a follower: JSON messages for WebSockets and event streams, text for terminals."""

from __future__ import annotations

from typing import Any

import msgspec

from instances.logs.items import Gap, Item, LogChunk, RunBegins, RunEnds
from instances.logs.records import Decoder
from instances.logs.text import TextWriter, format_marker

_encoder = msgspec.json.Encoder()


def _encode(message: dict[str, Any]) -> str:
    return _encoder.encode(message).decode()


class JsonWriter:
    """Writes items as JSON objects, each with ``type`` and the ``cursor`` to continue behind it; one for each reader.

    ``log``: ``lines``, a list of ``[stream, time, text, goes on]``; a line that goes on continues in the next entry of
    the same stream. ``gap``: ``bytes`` that are gone. ``run``: ``event`` begins or ends, with ``run_id``, ``state``
    (running or exited), ``started_at``, ``exited_at``.
    """

    def __init__(self, stream: str | None) -> None:
        self._stream = stream
        self._decoder = Decoder()

    def write(self, item: Item) -> str:
        """Return the message for an item."""
        if isinstance(item, LogChunk):
            return self._write_chunk(item)
        self._decoder = Decoder()
        if isinstance(item, Gap):
            return _encode({"type": "gap", "cursor": str(item.cursor), "bytes": item.size})
        run = item.run
        return _encode(
            {
                "type": "run",
                "event": "begins" if isinstance(item, RunBegins) else "ends",
                "cursor": str(item.cursor),
                "run_id": run.id,
                "state": "exited" if run.exited_at else "running",
                "started_at": run.started_at,
                "exited_at": run.exited_at,
            }
        )

    def _write_chunk(self, chunk: LogChunk) -> str:
        is_common = self._decoder.is_clean and not chunk.has_pieces
        form = ("json", self._stream, True)
        if is_common and (frame := chunk.shared.get(form)):
            return frame
        lines = self._decoder.decode(chunk.data, self._stream)
        frame = _encode({"type": "log", "cursor": str(chunk.cursor), "lines": lines})
        if is_common:
            chunk.shared[form] = frame
        return frame


class PlainWriter:
    """Writes items as text, with llamactl's markers around runs; one for each reader."""

    def __init__(self, name: str, stream: str | None, *, timestamps: bool) -> None:
        self._name = name
        self._stream = stream
        self._timestamps = timestamps
        self._decoder = Decoder()
        self._text = TextWriter(timestamps=timestamps)
        self._is_first = True

    def write(self, item: Item) -> str:
        """Return the text for an item, which may be empty."""
        if isinstance(item, LogChunk):
            text = _write_text(item, self._decoder, self._text, self._stream, timestamps=self._timestamps)
        else:
            text = self._write_note(item)
        self._is_first = self._is_first and not text
        return text

    def _write_note(self, item: Gap | RunBegins | RunEnds) -> str:
        self._decoder = Decoder()
        if isinstance(item, Gap):
            return self._text.write_own_line(f"=== {item.size} bytes of log are gone ===")
        if self._stream is not None:
            return ""
        if isinstance(item, RunBegins):
            if item.cursor.offset or item.run.started_at is None:
                return ""
            marker = format_marker(self._name, "started", item.run.started_at)
            return self._text.write_own_line(marker if self._is_first else f"\n{marker}")
        if item.run.exited_at is None:
            return ""
        return self._text.write_own_line(format_marker(self._name, "stopped", item.run.exited_at))


class RawWriter:
    """Writes what engines print and nothing else but gaps, in llama-swap's words; one for each reader.

    ``source`` tells several engines apart, whose output comes as it comes. An unfinished line that another engine
    breaks into is ended there.
    """

    def __init__(self) -> None:
        self._decoders: dict[int, Decoder] = {}
        self._text = TextWriter(timestamps=False)

    def write(self, item: Item, source: int = 0) -> str:
        """Return the text for an item, which may be empty."""
        if isinstance(item, LogChunk):
            decoder = self._decoders.setdefault(source, Decoder())
            return _write_text(item, decoder, self._text, None, timestamps=False, source=source)
        if isinstance(item, Gap):
            self._decoders.pop(source, None)
            return self._text.write_own_line(f"— {item.size} bytes dropped —")
        if isinstance(item, RunEnds):
            self._decoders.pop(source, None)
        return ""


def _write_text(
    chunk: LogChunk, decoder: Decoder, writer: TextWriter, stream: str | None, *, timestamps: bool, source: int = 0
) -> str:
    is_common = decoder.is_clean and writer.is_at_line_start and not chunk.has_pieces
    form = ("text", stream, timestamps)
    if is_common and (text := chunk.shared.get(form)) is not None:
        return text
    lines = decoder.decode(chunk.data, stream)
    if source and not is_common:
        lines = [line._replace(stream=f"{source} {line.stream}") for line in lines]
    text = writer.write(lines)
    if is_common:
        chunk.shared[form] = text
    return text
