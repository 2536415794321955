"""Carrying one request to a running instance and its answer back, byte by byte as they come."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Protocol

from gateway.accounting.reader import UsageReader
from gateway.activity import Activity
from gateway.asgi import Headers, Message
from gateway.body import RequestBody
from gateway.dial import UpstreamUnreachable
from gateway.errors import ClientGone, GatewayError
from gateway.exchange import Exchange
from gateway.headers import build_request_head, filter_answer_headers, filter_trailers
from gateway.pool import ConnectionPool
from gateway.structs import Route
from gateway.transfer import Transfer
from gateway.upstream import UpstreamConnection
from gateway.watch import DepartureWatch, feed_upstream, frame_piece, read_ahead, stop_task

logger = logging.getLogger(__name__)

_TRAILERS = "http.response.trailers"
"""The extension of ASGI by which an application sends trailers; Corral's own server offers it."""


class MakeReader(Protocol):
    """Makes what reads the usage from an answer, None when there's nothing to read; see `UsageReader.for_answer`."""

    def __call__(
        self, path: bytes, headers: Headers, *, method: str, status: int, counts_text: bool
    ) -> UsageReader | None:
        """The reader for the answer to `path` with these headers."""


class Forwarder:
    """Forwards exchanges over pooled connections and counts them. `make_reader` reads usage from the answers."""

    def __init__(self, pool: ConnectionPool, activity: Activity, make_reader: MakeReader | None = None) -> None:
        self._pool = pool
        self._activity = activity
        self._make_reader = make_reader
        self._watch = DepartureWatch()

    async def forward(self, exchange: Exchange, route: Route, path: bytes, query: bytes, body: RequestBody) -> None:
        """Answer the exchange with what the instance answers to `path`.

        Raises `GatewayError` (502 when no answer begins, 504 when none begins in time, or what is wrong with the rest
        of an upload) and `ClientGone` when the client doesn't wait for it. An answer that breaks off is left
        unfinished, by which the web server breaks the client's connection off too. Once the answer begins, `body` is
        empty: its memory is wanted for others.
        """
        transfer = Transfer(exchange, route, path, self.write_head(exchange, route, path, query), body)
        self.begin(transfer)
        try:
            if body.is_whole:
                connection = await self._send_whole(transfer)
            else:
                connection = await self._send_stream(exchange, route, transfer.head, body)
            await self._relay_answer(transfer, connection)
        finally:
            self.end(transfer)
            await self._stop_watching(exchange)

    # What `forward` is made of, for who can do without waiting (`gateway.direct`)

    def write_head(self, exchange: Exchange, route: Route, path: bytes, query: bytes) -> bytes:
        """The head of the request to the instance, as `Transfer` takes it.

        Raises `GatewayError` 400 for a header with a line break.
        """
        target = route.path_prefix.encode() + path if route.path_prefix else path
        if query:
            target += b"?" + query
        host = exchange.client_host or None
        return build_request_head(exchange.method, target, route, exchange.headers, client_host=host)

    def begin(self, transfer: Transfer) -> None:
        """Count it; `end` must follow."""
        exchange, route = transfer.exchange, transfer.route
        exchange.route = route
        self._activity.begin(route.instance_id, counts_as_use=not exchange.is_metadata)

    def take_idle(self, route: Route, now_s: float) -> UpstreamConnection | None:
        """A connection to the instance that was used before, or None. `now_s` is a monotonic time."""
        return self._pool.take_idle((route.host, route.port), now_s)

    def send(self, transfer: Transfer, connection: UpstreamConnection) -> None:
        """Send a request whose body is here."""
        exchange = transfer.exchange
        exchange.connection = connection
        connection.start(transfer.head, transfer.body.data, is_head_request=exchange.method == "HEAD")
        if transfer.route.first_byte_timeout_s:
            connection.expect_head(transfer.route.first_byte_timeout_s)

    async def dial(self, transfer: Transfer) -> UpstreamConnection:
        """A new connection for a request whose body is here. Raises as `forward` does."""
        exchange = transfer.exchange
        if exchange.client_gone:
            raise ClientGone
        connection = exchange.connection = await self._connect(exchange, transfer.route)
        if exchange.client_gone:
            raise ClientGone
        return connection

    async def go_on(self, transfer: Transfer, connection: UpstreamConnection, *, is_reused: bool) -> None:
        """Answer what was sent, from whatever point on; `forward` tells what it raises."""
        try:
            if not transfer.is_begun:
                connection = await self._wait_for_head(transfer, connection, may_retry=is_reused)
            await self._relay_answer(transfer, connection)
        finally:
            self.end(transfer)

    def begin_answer(self, transfer: Transfer, connection: UpstreamConnection) -> Headers:
        """The headers to send on; the head of the answer must be here. Raises `GatewayError` 502."""
        exchange, status = transfer.exchange, connection.status
        self.note_answer(transfer, connection)
        transfer.sends_trailers = connection.announces_trailers and _TRAILERS in exchange.scope.get("extensions", ())
        headers = filter_answer_headers(connection.headers, drop_length=status in (204, 304))
        headers += exchange.extra_headers
        return headers

    def note_answer(self, transfer: Transfer, connection: UpstreamConnection) -> None:
        """Note that the answer begins, and have its usage read. Raises `GatewayError` 502."""
        exchange, route, status = transfer.exchange, transfer.route, connection.status
        if not 100 <= status <= 599:  # no server may send it on (RFC 9110, 15)
            message = f"Instance {route.name} answered with the impossible status {status}"
            raise GatewayError(502, "bad_gateway", message)
        transfer.is_begun = True
        exchange.status = status
        exchange.first_byte_s = time.monotonic()
        if route.idle_timeout_s or route.first_byte_timeout_s:
            connection.expect_body(route.idle_timeout_s)
        if self._make_reader is not None:
            transfer.reader = exchange.usage_reader = self._make_reader(
                transfer.path,
                connection.headers,
                method=exchange.method,
                status=status,
                counts_text=bool(exchange.quotas),
            )

    def end(self, transfer: Transfer) -> None:
        """Count it no more, and keep the connection if it can carry another exchange."""
        exchange, route = transfer.exchange, transfer.route
        self._activity.end(route.instance_id, counts_as_use=not exchange.is_metadata)
        now_s = exchange.ended_s = time.monotonic()
        connection, exchange.connection = exchange.connection, None
        if connection is not None:
            if exchange.is_sent:
                self._pool.give_back((route.host, route.port), connection, now_s)
            else:
                connection.abort()
        if exchange.release is not None:
            exchange.release_body()

    async def _stop_watching(self, exchange: Exchange) -> None:
        watcher, exchange.watcher = exchange.watcher, None
        if watcher is not None:
            await stop_task(watcher)

    async def _send_whole(self, transfer: Transfer) -> UpstreamConnection:
        """Send a request whose body is here and wait for the head of its answer."""
        exchange = transfer.exchange
        connection = self.take_idle(transfer.route, time.monotonic())  # it may have come long ago
        is_reused = connection is not None
        self._watch.add(exchange)
        if connection is None:
            connection = await self.dial(transfer)
        self.send(transfer, connection)
        return await self._wait_for_head(transfer, connection, may_retry=is_reused)

    async def _wait_for_head(
        self, transfer: Transfer, connection: UpstreamConnection, *, may_retry: bool
    ) -> UpstreamConnection:
        exchange = transfer.exchange
        while True:
            while not connection.head_complete and not connection.is_lost:
                await connection.changed()
            if connection.head_complete and not exchange.client_gone:
                transfer.body.data = b""
                if exchange.release is not None:
                    exchange.release_body()
                return connection
            if not (may_retry and connection.is_unseen) or exchange.client_gone:
                raise _give_up(exchange, connection)
            # It was closed while it was idle, and the instance has received nothing of this request.
            may_retry = False
            exchange.connection = None
            connection = await self.dial(transfer)
            self.send(transfer, connection)

    async def _send_stream(
        self, exchange: Exchange, route: Route, head: bytes, body: RequestBody
    ) -> UpstreamConnection:
        """Send a request whose body comes in pieces; the answer may begin before they have all been sent.

        Pieces can't be sent twice, so they don't go onto a connection that may have died while it was idle.
        """
        exchange.is_sent = False
        stream = body.stream
        reading = asyncio.create_task(read_ahead(exchange, stream)) if stream is not None else None
        try:
            connection = exchange.connection = await self._connect(exchange, route)
        finally:
            if reading is not None:
                await stop_task(reading)
        if exchange.client_gone or exchange.upload_error is not None:
            raise _give_up(exchange, connection)
        data = frame_piece(body.data, is_chunked=body.is_chunked)
        connection.start(head, data, is_head_request=exchange.method == "HEAD")
        feeding = feed_upstream(exchange, connection, body, first_byte_timeout_s=route.first_byte_timeout_s)
        exchange.watcher = asyncio.create_task(feeding)
        while not connection.head_complete and not connection.is_lost:
            await connection.changed()
        if not connection.head_complete or exchange.client_gone:
            raise _give_up(exchange, connection)
        return connection

    async def _connect(self, exchange: Exchange, route: Route) -> UpstreamConnection:
        dialling = exchange.dialling = self._pool.dial((route.host, route.port), route.connect_timeout_s)
        try:
            return await dialling.finish()
        except UpstreamUnreachable as error:
            if exchange.client_gone or exchange.upload_error is not None:
                raise exchange.upload_error or ClientGone from error
            if error.is_timeout:
                seconds = route.connect_timeout_s or self._pool.connect_timeout_s
                message = f"Instance {route.name} can't be reached: no connection within {seconds:g} seconds"
                raise GatewayError(504, "upstream_timeout", message) from error
            raise GatewayError(502, "bad_gateway", f"Instance {route.name} can't be reached: {error}") from error
        finally:
            exchange.dialling = None

    async def _relay_answer(self, transfer: Transfer, connection: UpstreamConnection) -> None:
        exchange, send = transfer.exchange, transfer.exchange.send
        if not transfer.is_begun:
            headers = self.begin_answer(transfer, connection)
            start: Message = {"type": "http.response.start", "status": connection.status, "headers": headers}
            if transfer.sends_trailers:
                start["trailers"] = True
            await send(start)
        reader = transfer.reader
        while True:
            data = connection.take()
            exchange.sent_bytes += len(data)
            if connection.is_complete:
                exchange.is_answered = True
                await send({"type": "http.response.body", "body": data, "more_body": False})
                if reader is not None and data:
                    reader.feed(data)
                if transfer.sends_trailers:
                    trailers = filter_trailers(connection.trailers or [])
                    await send({"type": _TRAILERS, "headers": trailers, "more_trailers": False})
                return
            if data:
                await send({"type": "http.response.body", "body": data, "more_body": True})
                if reader is not None:
                    reader.feed(data)
            elif not connection.is_lost:
                await connection.changed()
            elif exchange.client_gone:
                raise ClientGone
            else:
                exchange.outcome = "upstream_lost"
                reason = exchange.upload_error or connection.error
                logger.warning("Instance %s broke off an answer: %s", _name(exchange), reason)
                return


def _name(exchange: Exchange) -> str:
    return exchange.route.name if exchange.route is not None else "?"


def _give_up(exchange: Exchange, connection: UpstreamConnection) -> Exception:
    """Why no answer begins."""
    if exchange.client_gone:
        return ClientGone()
    if exchange.upload_error is not None:
        return exchange.upload_error
    message = f"Instance {_name(exchange)} gave no answer: {connection.error}"
    if connection.is_timed_out:
        return GatewayError(504, "upstream_timeout", message)
    return GatewayError(502, "bad_gateway", message)
