"""Questions to the system about a TCP connection that no transport answers."""

from __future__ import annotations

import asyncio
import select
import socket
import struct
import sys

_BYTES_ACKED = struct.Struct("=Q")
_BYTES_ACKED_AT = 120
"""Where Linux's `struct tcp_info` (linux/tcp.h, since 4.1) holds `tcpi_bytes_acked`."""
_TCP_CLOSE = 7
"""`tcpi_state` after a reset (netinet/tcp.h); after a close by the other side alone it is 8."""
_ONE_SEGMENT = 16 * 1024
_LEFTOVER_LIMIT = 1024 * 1024
_poll = select.poll()


def has_input(transport: asyncio.Transport) -> bool:
    """Whether reading would not wait: on a connection where nothing is expected, because the other side closed it."""
    descriptor = _find_socket(transport).fileno()
    if descriptor < 0:
        return True
    _poll.register(descriptor, select.POLLIN)
    try:
        return bool(_poll.poll(0))
    finally:
        _poll.unregister(descriptor)


def may_have_read(transport: asyncio.Transport, sent_before: int, sent: int, error: Exception | None) -> bool:
    """Whether a program on the other side of a lost connection may have read any of the last `sent` bytes.

    `sent_before` bytes had gone before them; `error` is the one that ended the connection, None for an orderly close.
    Linux tells what the other system has received: the last segment that comes, even one that closes, says it. Besides,
    a close that is followed by a reset comes from a program that closed without having read what was there; what fits
    into one segment it would have read at once. Elsewhere only a reset tells that.
    """
    if sys.platform != "linux":
        return not isinstance(error, (ConnectionResetError, BrokenPipeError))
    try:
        info = _find_socket(transport).getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED_AT + 8)
        (acknowledged,) = _BYTES_ACKED.unpack_from(info, _BYTES_ACKED_AT)
    except (OSError, struct.error):
        return True
    # The opening of the connection counts as one byte.
    if sent_before <= acknowledged <= sent_before + 1:
        return False
    was_reset_after_close = error is None and info[0] == _TCP_CLOSE
    return not (was_reset_after_close and sent <= _ONE_SEGMENT)


def read_leftover(transport: asyncio.Transport) -> bytes:
    """What had come on a connection before it was reset and nobody has read yet; at most 1 MiB."""
    descriptor = _find_socket(transport).fileno()
    if descriptor < 0:
        return b""
    try:
        with socket.fromfd(descriptor, socket.AF_INET, socket.SOCK_STREAM) as copy:
            copy.setblocking(False)
            return copy.recv(_LEFTOVER_LIMIT)
    except OSError:
        return b""


def _find_socket(transport: asyncio.Transport) -> socket.socket:
    found: socket.socket = transport.get_extra_info("socket")
    return found
