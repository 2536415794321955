"""uvicorn's HTTP protocol with bounds on what a client may send before its request is understood.

httptools joins the pieces of a header as they come, so the cost of an endless one grows with its square and holds up
every other request of the process; and nothing ends a connection that never finishes its head.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Bytes of a request's line and headers, or of trailers. Cookies and keys need a few hundred; nginx allows 32 KiB.
HEAD_LIMIT = 64 * 2**10
#: Seconds from a connection, or the first byte of a head, to its end.
HEAD_TIMEOUT_S = 30.0

TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: 43\r\nconnection: close\r\n\r\nThe request's headers are larger than 64 K."
)


class BoundedHttpProtocol(HttpToolsProtocol):
    """Refuses heads larger than HEAD_LIMIT (RFC 6585, 5: status 431) and closes connections that send none in time."""

    _unread = 0
    _is_in_head = True
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Expect a head."""
        super().connection_made(transport)
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._stop_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, and count what made no head and no body of it."""
        self._unread += len(data)
        super().data_received(data)
        if self._unread > HEAD_LIMIT and not self.transport.is_closing():
            self.transport.write(TOO_LARGE)
            self.transport.close()
        elif self._is_in_head and self._head_timer is None:
            self._start_head_timer()

    def on_message_begin(self) -> None:
        """Note that a head has begun."""
        self._is_in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Note that it has ended."""
        self._unread, self._is_in_head = 0, False
        self._stop_head_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note the end of a request."""
        self._unread = 0
        super().on_message_complete()

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._give_up)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()
