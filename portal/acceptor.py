"""Accepting the connections of clients: all that wait, when many come in one moment.

libuv accepts one connection in a turn of its loop (since version 1.45, as there is mostly no second one). When hundreds
of clients appear at once, every turn also serves the streams of those that were accepted before, and the last client
would wait for hundreds of such turns.
"""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import Any

from portal.http_protocol import BoundedHttpProtocol

BURST_S = 0.5
"""A connection that comes so soon after another one may have others behind it; a turn of a busy loop is shorter."""
ACCEPT_LIMIT = 8
"""So many are taken in one turn besides the event loop's own: the streams of others wait that long."""


class Acceptor:
    """Stands in for the class of the protocol: called for each connection that the event loop accepts.

    `listener` is the socket that the event loop listens on.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._accepted_at = 0.0
        self._is_planned = False
        self._opening: set[asyncio.Task[Any]] = set()

    def __call__(self, *, _loop: asyncio.AbstractEventLoop | None = None, **parts: Any) -> BoundedHttpProtocol:
        """The protocol of one connection, from what uvicorn gives it."""
        loop = _loop or asyncio.get_running_loop()
        make_protocol = partial(BoundedHttpProtocol, _loop=loop, **parts)
        now = loop.time()
        if now - self._accepted_at < BURST_S and not self._is_planned:
            self._is_planned = True
            loop.call_soon(self._accept_waiting, loop, make_protocol)
        self._accepted_at = now
        return make_protocol()

    def _accept_waiting(self, loop: asyncio.AbstractEventLoop, make_protocol: partial[BoundedHttpProtocol]) -> None:
        self._is_planned = False
        for _ in range(ACCEPT_LIMIT):
            try:
                connection, _address = self._listener.accept()
            except OSError:
                return  # there is no more; what else may be wrong, the event loop meets at its own next attempt
            opening = loop.create_task(loop.connect_accepted_socket(make_protocol, connection))
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)
