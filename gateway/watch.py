"""Noticing that a client has gone, and feeding request bodies that come in pieces."""

from __future__ import annotations

import asyncio

from gateway.body import RequestBody
from gateway.body_stream import BodyStream
from gateway.errors import ClientGone, GatewayError
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


async def read_ahead(exchange: Exchange, stream: BodyStream) -> None:
    """Hold what comes of the request body, and end the exchange when the client goes or the body is refused."""
    try:
        await stream.keep_reading()
    except ClientGone:
        exchange.abandon()
    except GatewayError as error:
        exchange.fail_upload(error)


async def stop_task(task: asyncio.Task[None]) -> None:
    """Cancel a task and return when it has ended."""
    task.cancel()
    await asyncio.wait((task,))


async def feed_upstream(
    exchange: Exchange, connection: UpstreamConnection, body: RequestBody, *, first_byte_timeout_s: float
) -> None:
    """Send the rest of the request body to the instance, no faster than it is read there; then watch the client.

    `first_byte_timeout_s` is how long the answer may take from then on, 0 for ever.
    """
    feeder = _Feeder(exchange, connection, body)
    try:
        await feeder.feed()
    except ClientGone:
        exchange.abandon()
        return
    except GatewayError as error:
        exchange.fail_upload(error)
        return
    finally:
        await feeder.stop_reading()
    exchange.is_sent = True
    if first_byte_timeout_s:
        connection.expect_head(first_byte_timeout_s)
    await watch_client(exchange)


class _Feeder:
    """Sends a body on. Meanwhile it reads ahead where it couldn't notice that the client goes otherwise."""

    def __init__(self, exchange: Exchange, connection: UpstreamConnection, body: RequestBody) -> None:
        self._exchange = exchange
        self._connection = connection
        self._body = body
        self._reading: asyncio.Task[None] | None = None

    async def feed(self) -> None:
        stream = self._body.stream
        while stream is not None and not self._connection.is_lost:
            if stream.is_on_disk:
                self._start_reading(stream)
            piece = await stream.take_held()
            if piece is None:
                await self.stop_reading()
                piece = await stream.read_more()
            if piece is None:
                break
            self._connection.write(frame_piece(piece, is_chunked=self._body.is_chunked))
            drained = self._connection.drained()
            if drained is not None:
                await asyncio.wait((drained,), timeout=PATIENCE_S)
                if not drained.done():
                    self._start_reading(stream)
                    await asyncio.wait((drained,))
                    if not stream.is_on_disk:
                        # The client waits for the instance again, rather than filling the disk.
                        await self.stop_reading()
        if self._body.is_chunked:
            self._connection.write(b"0\r\n\r\n")

    def _start_reading(self, stream: BodyStream) -> None:
        if self._reading is None:
            self._reading = asyncio.create_task(read_ahead(self._exchange, stream))

    async def stop_reading(self) -> None:
        if self._reading is not None:
            await stop_task(self._reading)
            self._reading = None


def frame_piece(data: bytes, *, is_chunked: bool) -> bytes:
    """One piece of a request body as it goes over the wire (RFC 9112 section 7.1)."""
    return b"%x\r\n%s\r\n" % (len(data), data) if is_chunked and data else data
