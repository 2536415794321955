"""Questions to the system about a TCP connection that no transport answers."""

from __future__ import annotations

import asyncio
import select
import socket
import struct
import sys

_NUMBER = struct.Struct("=Q")
_BYTES_ACKED_AT = 120
_BYTES_SENT_AT = 200
"""Where Linux's `struct tcp_info` (linux/tcp.h, since 4.19) holds `tcpi_bytes_acked` and `tcpi_bytes_sent`."""
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
    Only Linux tells enough to say no:

    - The segment that closes a connection says as well what the other system has received until then.
    - A close that is followed by a reset comes from a program that has closed without reading what was there; what
      comes in one segment is read at once or not at all.
    - A reset alone may follow upon a part that was read. But it may have come before anything was sent.
    """
    if sys.platform != "linux":
        return True
    try:
        info = _find_socket(transport).getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_SENT_AT + 8)
        (acknowledged,) = _NUMBER.unpack_from(info, _BYTES_ACKED_AT)
        (all_sent,) = _NUMBER.unpack_from(info, _BYTES_SENT_AT)
    except (OSError, struct.error):
        return True
    if error is not None and not isinstance(error, BrokenPipeError):
        return bool(all_sent > sent_before)
    if sent_before <= acknowledged <= sent_before + 1:  # the opening of the connection counts as one byte
        return False
    return info[0] != _TCP_CLOSE or sent > _ONE_SEGMENT


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
