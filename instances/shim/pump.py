"""Waits for signals and for the backend's output, and carries the output to the log."""

from __future__ import annotations

import os
import select
import signal
import time

from instances.shim.log import LineFormatter, LogWriter, Stamps

READ_BYTES = 64 * 1024
BUSY_BYTES = READ_BYTES // 2  # a read this large means that the writer may be waiting for room in the pipe
LONGEST_WAIT_S = 3600.0  # poll(2) counts milliseconds in an int
GATHER_S = 0.01  # how long a steady trickle is gathered, so that each line doesn't cost a turn of the loop


class Pump:
    """The one place where the shim waits."""

    def __init__(self, log: LogWriter, stamps: Stamps) -> None:
        self._log = log
        self._stamps = stamps
        self._streams: dict[int, LineFormatter] = {}
        self._signal_poll = select.poll()
        self._full_poll = select.poll()
        self._signal_end = -1
        self._resume_at = 0.0

    def watch_signals(self, numbers: tuple[int, ...]) -> None:
        """Catch these signals from now on; `wait` returns them."""
        self._signal_end, write_end = os.pipe()
        os.set_blocking(self._signal_end, False)
        os.set_blocking(write_end, False)
        # A full pipe loses nothing that matters: it means that the loop will wake up anyway.
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, _ignore)
        self._signal_poll.register(self._signal_end, select.POLLIN)
        self._full_poll.register(self._signal_end, select.POLLIN)

    def add_stream(self, name: bytes) -> int:
        """Log what is written to the descriptor that is returned; the caller closes it after handing it on."""
        read_end, write_end = os.pipe()
        self._streams[read_end] = LineFormatter(name)
        self._full_poll.register(read_end, select.POLLIN)
        return write_end

    def has_streams(self) -> bool:
        """Whether somebody still holds a writing end."""
        return bool(self._streams)

    def wait(self, timeout: float) -> bytes:
        """Wait for signals, output or the time-out (seconds); log the output, return the numbers of the signals."""
        now = time.monotonic()
        deadline = now + min(timeout, LONGEST_WAIT_S)
        gathering = self._resume_at > now
        if gathering:
            deadline = min(deadline, self._resume_at)
        else:
            due = [at for formatter in self._streams.values() if (at := formatter.flush_at()) is not None]
            deadline = min(deadline, *due) if due else deadline
        milliseconds = max(0, round((deadline - now) * 1000 + 0.5))
        ready = (self._signal_poll if gathering else self._full_poll).poll(milliseconds)
        self._copy_output([descriptor for descriptor, _ in ready if descriptor != self._signal_end])
        return self._read_signals() if any(descriptor == self._signal_end for descriptor, _ in ready) else b""

    def close(self) -> None:
        """Stop reading; unfinished lines are ended."""
        for descriptor in list(self._streams):
            self._log.append(self._end_stream(descriptor))

    def _copy_output(self, descriptors: list[int]) -> None:
        now = time.monotonic()
        stamp = self._stamps.next()
        records = b""
        largest = 0
        for descriptor in descriptors:
            data = os.read(descriptor, READ_BYTES)
            largest = max(largest, len(data))
            records += self._streams[descriptor].feed(data, stamp, now) if data else self._end_stream(descriptor)
        for formatter in self._streams.values():
            due = formatter.flush_at()
            if due is not None and due <= now:
                records += formatter.flush(stamp)
        if records:
            self._log.append(records)
        if 0 < largest < BUSY_BYTES:
            self._resume_at = now + GATHER_S

    def _end_stream(self, descriptor: int) -> bytes:
        self._full_poll.unregister(descriptor)
        os.close(descriptor)
        return self._streams.pop(descriptor).close(self._stamps.next())

    def _read_signals(self) -> bytes:
        try:
            return os.read(self._signal_end, 512)
        except BlockingIOError:
            return b""


def _ignore(number: int, frame: object) -> None:
    """Handler in name only: the signal travels through the wake-up descriptor."""
