"""Noticing that a client has gone, and feeding request bodies that come in pieces."""

from __future__ import annotations

import asyncio

from gateway.exchange import Exchange
from gateway.upstream import UpstreamConnection

PATIENCE_S = 0.04


class DepartureWatch:
    """Watches the clients of exchanges that last.

    A task per request would cost more than most requests do, so new exchanges are collected and only those that are
    still unanswered after `PATIENCE_S` get one.
    """

    def __init__(self) -> None:
        self._young: list[Exchange] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, exchange: Exchange) -> None:
        """Watch this exchange; its request body must have been read completely."""
        self._young.append(exchange)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PATIENCE_S, self._start_watchers)

    def _start_watchers(self) -> None:
        self._timer = None
        young, self._young = self._young, []
        for exchange in young:
            if not exchange.is_answered and exchange.ended_s is None:
                exchange.watcher = asyncio.create_task(watch_client(exchange))


async def watch_client(exchange: Exchange) -> None:
    """Abandon the exchange when its client goes."""
    while (await exchange.receive())["type"] != "http.disconnect":
        pass
    exchange.abandon()


async def feed_upstream(exchange: Exchange, connection: UpstreamConnection, *, is_chunked: bool) -> None:
    """Send the rest of the request body to the instance, no faster than it is read there; then watch the client.

    `is_chunked` frames the pieces as RFC 9112 section 7.1 says; otherwise the client's Content-Length delimits them.
    """
    more_body = True
    while more_body:
        message = await exchange.receive()
        if message["type"] == "http.disconnect":
            exchange.abandon()
            return
        connection.write(frame_piece(message.get("body", b""), is_chunked=is_chunked))
        more_body = message.get("more_body", False)
        await connection.drain()
    if is_chunked:
        connection.write(b"0\r\n\r\n")
    exchange.is_sent = True
    await watch_client(exchange)


def frame_piece(data: bytes, *, is_chunked: bool) -> bytes:
    """One piece of a request body as it goes over the wire."""
    return b"%x\r\n%s\r\n" % (len(data), data) if is_chunked and data else data
