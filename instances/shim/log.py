"""The log of a run, in the CRI log format of Kubernetes (``<RFC 3339 time> stdout|stderr F|P <text>``).

A record is at most 16 KiB of text. ``P`` marks a piece of a line that goes on in the next record of the same stream;
``F`` ends the line. Text is kept byte for byte, carriage returns included. All records of one read share one stamp.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from instances.shim.rotation import Rotation

MAX_RECORD_TEXT = 16 * 1024
PARTIAL_AGE_S = 0.2


class Stamps:
    """Time stamps that never go back within a run.

    They follow the wall clock (a run may last for weeks, over corrections and suspended nights). Should the wall clock
    be set back, they go on at half speed from where they were until it has caught up.
    """

    def __init__(
        self, wall_ns: Callable[[], int] = time.time_ns, monotonic_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._wall_ns = wall_ns
        self._monotonic_ns = monotonic_ns
        self._last = 0
        self._last_monotonic = 0
        self._second = -1
        self._text = b""

    def next(self) -> bytes:
        """The present moment, RFC 3339 in UTC with nine digits of a second."""
        wall, monotonic = self._wall_ns(), self._monotonic_ns()
        if wall < self._last:
            wall = self._last + (monotonic - self._last_monotonic) // 2
        self._last, self._last_monotonic = wall, monotonic
        second, nanosecond = divmod(wall, 1_000_000_000)
        if second != self._second:
            self._second, self._text = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        return b"%b.%09dZ" % (self._text, nanosecond)


class LineFormatter:
    """Turns the bytes of one stream into records. Times are in seconds of `time.monotonic`."""

    def __init__(self, stream: bytes) -> None:
        self._stream = stream
        self._pending = b""
        self._pending_since = 0.0
        self._line_is_open = False

    def feed(self, data: bytes, stamp: bytes, now: float) -> bytes:
        """Records for the lines that `data` completes; the rest waits for its end or for `flush`."""
        prefix = b"%b %b F " % (stamp, self._stream)
        head, newline, tail = (self._pending + data).rpartition(b"\n")
        records = b""
        if newline:
            records = self._format_lines(head, prefix)
            self._line_is_open = False
        if newline or not self._pending:
            self._pending_since = now
        if len(tail) > MAX_RECORD_TEXT:
            pieces, tail = self._cut(tail, prefix)
            records += pieces
            self._line_is_open = True
            self._pending_since = now
        self._pending = tail
        return records

    def flush_at(self) -> float | None:
        """When the unfinished line is due to be shown; None when there is none."""
        return self._pending_since + PARTIAL_AGE_S if self._pending else None

    def flush(self, stamp: bytes) -> bytes:
        """Record for the unfinished line as far as it goes."""
        text, self._pending = self._pending, b""
        self._line_is_open = True
        return b"%b %b P %b\n" % (stamp, self._stream, text)

    def close(self, stamp: bytes) -> bytes:
        """Record that ends an unfinished line, when there is one."""
        if not self._pending and not self._line_is_open:
            return b""
        text, self._pending = self._pending, b""
        self._line_is_open = False
        return b"%b %b F %b\n" % (stamp, self._stream, text)

    def _format_lines(self, lines: bytes, prefix: bytes) -> bytes:
        if len(lines) > MAX_RECORD_TEXT:
            parts = lines.split(b"\n")
            if max(map(len, parts)) > MAX_RECORD_TEXT:
                return b"".join(self._format_long_line(part, prefix) for part in parts)
        return prefix + lines.replace(b"\n", b"\n" + prefix) + b"\n"

    def _format_long_line(self, line: bytes, prefix: bytes) -> bytes:
        pieces, rest = self._cut(line, prefix)
        return b"%b%b%b\n" % (pieces, prefix, rest)

    def _cut(self, text: bytes, prefix: bytes) -> tuple[bytes, bytes]:
        """The text as P records, and the last piece that is not cut off yet."""
        prefix = prefix[:-2] + b"P "
        whole = (len(text) - 1) // MAX_RECORD_TEXT * MAX_RECORD_TEXT if text else 0
        starts = range(0, whole, MAX_RECORD_TEXT)
        records = b"".join(b"%b%b\n" % (prefix, text[start : start + MAX_RECORD_TEXT]) for start in starts)
        return records, text[whole:]


class LogWriter:
    """Appends records to the log file; a disk that refuses them costs log lines, never the backend."""

    def __init__(self, rotation: Rotation, stamps: Stamps) -> None:
        self.lost_bytes = 0
        self._rotation = rotation
        self._stamps = stamps
        self._unreported = 0
        self._reason = ""
        self._is_torn = False

    def append(self, records: bytes) -> None:
        """Write whole records, or count them as lost."""
        if self._unreported and not self._report_loss():
            self._lose(len(records), self._reason)
            return
        self._write(records)

    def note(self, text: str) -> None:
        """Write a line of the shim's own, on the stream of errors."""
        self.append(self._format_note(text))

    def close(self) -> None:
        """Try a last time to report what was lost, and close the file."""
        if self._unreported:
            self._report_loss()
        self._rotation.close()

    def _format_note(self, text: str) -> bytes:
        return b"%b stderr F corral: %b\n" % (self._stamps.next(), text.encode("utf-8", "backslashreplace"))

    def _report_loss(self) -> bool:
        note = self._format_note(f"{self._unreported} bytes of log were lost: {self._reason}")
        reported, lost = self._unreported, self.lost_bytes
        self._unreported = 0
        if self._write(b"\n" + note if self._is_torn else note):
            return True
        self._unreported, self.lost_bytes = reported, lost
        return False

    def _write(self, records: bytes) -> bool:
        written = 0
        try:
            self._rotation.make_room(len(records))
            while written < len(records):
                written += self._rotation.write(memoryview(records)[written:])
        except OSError as error:
            if written:
                self._is_torn = records[written - 1] != 0x0A
            self._lose(len(records) - written, error.strerror or str(error))
            return False
        self._is_torn = False
        return True

    def _lose(self, size: int, reason: str) -> None:
        self.lost_bytes += size
        self._unreported += size
        self._reason = reason
