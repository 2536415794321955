"""Carrying one request to a running instance and its answer back, byte by byte as they come."""

from __future__ import annotations

import asyncio
import logging
import time

from gateway.activity import Activity
from gateway.body import RequestBody
from gateway.errors import ClientGone, GatewayError
from gateway.exchange import Exchange
from gateway.headers import build_request_head, filter_answer_headers
from gateway.pool import ConnectionPool, Endpoint, UpstreamUnreachable
from gateway.structs import Route
from gateway.upstream import UpstreamConnection
from gateway.watch import DepartureWatch, feed_upstream, frame_piece

logger = logging.getLogger(__name__)

_METADATA_PATHS = frozenset((b"/health", b"/v1/health", b"/models", b"/v1/models", b"/props", b"/metrics", b"/slots"))


def counts_as_use(method: str, path: bytes) -> bool:
    """Whether a request keeps its instance from idling; looking at its health or metadata doesn't."""
    return not (method in ("GET", "HEAD") and (path.rstrip(b"/") or b"/") in _METADATA_PATHS)


class Forwarder:
    """Forwards exchanges over pooled connections and counts them."""

    def __init__(self, pool: ConnectionPool, activity: Activity) -> None:
        self._pool = pool
        self._activity = activity
        self._watch = DepartureWatch()

    async def forward(self, exchange: Exchange, route: Route, path: bytes, query: bytes, body: RequestBody) -> None:
        """Answer the exchange with what the instance answers to `path`.

        Raises `GatewayError` 502 when no answer begins and `ClientGone` when the client doesn't wait for it. An answer
        that breaks off is left unfinished, by which the web server breaks the client's connection off too.
        """
        exchange.route = route
        endpoint = (route.host, route.port)
        is_use = counts_as_use(exchange.method, path)
        client = exchange.scope.get("client")
        target = route.path_prefix.encode() + path if route.path_prefix else path
        if query:
            target += b"?" + query
        head = build_request_head(
            exchange.method,
            target,
            route,
            exchange.headers,
            client_host=client[0] if client else None,
            framing=body.framing,
        )
        self._activity.begin(route.instance_id, counts_as_use=is_use)
        try:
            connection = await self._send_request(exchange, endpoint, head, body)
            await self._relay_answer(exchange, connection)
        finally:
            self._activity.end(route.instance_id, counts_as_use=is_use)
            await self._put_away(exchange, endpoint)

    async def _send_request(
        self, exchange: Exchange, endpoint: Endpoint, head: bytes, body: RequestBody
    ) -> UpstreamConnection:
        # What comes in pieces can't be sent twice, so it doesn't go onto a connection that may have died while idle.
        connection = self._pool.take_idle(endpoint) if body.is_whole else None
        may_retry = connection is not None
        data = body.data if body.is_whole else frame_piece(body.data, is_chunked=body.is_chunked)
        exchange.is_sent = body.is_whole
        if body.is_whole:
            self._watch.add(exchange)
        while True:
            if connection is None:
                connection = await self._connect(exchange, endpoint)
            exchange.connection = connection
            if exchange.client_gone:
                raise ClientGone
            connection.start(head, data, is_head_request=exchange.method == "HEAD")
            if not body.is_whole:
                feeding = feed_upstream(exchange, connection, is_chunked=body.is_chunked)
                exchange.watcher = asyncio.create_task(feeding)
            while not connection.head_complete and not connection.is_lost:
                await connection.changed()
            if exchange.client_gone:
                raise ClientGone
            if connection.head_complete:
                return connection
            if not may_retry or connection.received_any:
                raise _bad_gateway(exchange, f"gave no answer: {connection.error}")
            may_retry = False
            connection = exchange.connection = None

    async def _connect(self, exchange: Exchange, endpoint: Endpoint) -> UpstreamConnection:
        try:
            return await self._pool.connect(endpoint)
        except UpstreamUnreachable as error:
            if exchange.client_gone:
                raise ClientGone from error
            raise _bad_gateway(exchange, f"can't be reached: {error}") from error

    async def _relay_answer(self, exchange: Exchange, connection: UpstreamConnection) -> None:
        send = exchange.send
        if not 100 <= connection.status <= 599:  # no server may send it on (RFC 9110, 15)
            raise _bad_gateway(exchange, f"answered with the impossible status {connection.status}")
        status = exchange.status = connection.status
        exchange.first_byte_s = time.monotonic()
        headers = filter_answer_headers(connection.headers, drop_length=status in (204, 304))
        headers += exchange.extra_headers
        await send({"type": "http.response.start", "status": status, "headers": headers})
        while True:
            data = connection.take()
            exchange.sent_bytes += len(data)
            if connection.is_complete:
                exchange.is_answered = True
                await send({"type": "http.response.body", "body": data, "more_body": False})
                return
            if data:
                await send({"type": "http.response.body", "body": data, "more_body": True})
            elif not connection.is_lost:
                await connection.changed()
            elif exchange.client_gone:
                raise ClientGone
            else:
                exchange.outcome = "upstream_lost"
                logger.warning("Instance %s broke off an answer: %s", _name(exchange), connection.error)
                return

    async def _put_away(self, exchange: Exchange, endpoint: Endpoint) -> None:
        exchange.ended_s = time.monotonic()
        connection, exchange.connection = exchange.connection, None
        if connection is not None:
            if exchange.is_sent:
                self._pool.give_back(endpoint, connection)
            else:
                connection.abort()
        watcher = exchange.watcher
        if watcher is not None:
            watcher.cancel()
            await asyncio.wait((watcher,))


def _name(exchange: Exchange) -> str:
    return exchange.route.name if exchange.route is not None else "?"


def _bad_gateway(exchange: Exchange, reason: str) -> GatewayError:
    return GatewayError(502, "bad_gateway", f"Instance {_name(exchange)} {reason}")
