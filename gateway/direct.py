"""The short way of a request: sent on where it was parsed, its answer sent on where that was parsed, without a task.

Most requests need nothing that takes time: the body is here, the key is known, the instance is ready. A task, its
futures and the turns of the event loop that they take would cost as much as all the rest; only a new connection to the
instance takes a task. This way knows no rules of its own: it asks the same functions as `gateway.inference` and
`gateway.forward` do, and whenever something else would have to wait, is refused or fails, those take over from that
point on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway.asgi import ASGIApp, Headers, Receive, Scope, Send, find_header
from gateway.exchange import Exchange
from gateway.guards import guard_body
from gateway.keys import drop_query_key
from gateway.multipart import is_multipart
from gateway.named import find_query_model, name_body
from gateway.serving import Serving
from gateway.transfer import Transfer
from gateway.upstream import UpstreamConnection


class Client(Protocol):
    """A request whose body is here, and its answer, at a server that offers more than ASGI does."""

    scope: Scope
    on_departure: Callable[[], None] | None
    """Called when the client has gone; the server forgets it with the end of the answer."""

    @property
    def receive(self) -> Receive:
        """ASGI's."""

    @property
    def send(self) -> Send:
        """ASGI's."""

    @property
    def can_write(self) -> bool:
        """Whether the client is there and has read enough of what was written."""

    def peek_body(self) -> bytes:
        """The whole body; `receive` still brings it."""

    def drop_body(self) -> None:
        """From now on `receive` brings nothing but the client's departure."""

    def begin_answer(self, status: int, headers: Headers, *, has_trailers: bool) -> None:
        """As `http.response.start`; `write_body` or `flush_head` must follow. Raises RuntimeError as `send` does."""

    def flush_head(self) -> None:
        """Send the head without a piece of the body."""

    def write_body(self, body: bytes, *, more_body: bool) -> None:
        """As `http.response.body`. Raises RuntimeError when the length isn't as announced."""

    def start(self, app: ASGIApp) -> None:
        """Run an application for the rest of the answer."""


class DirectWay:
    """Carries the requests that can go this way.

    `open_exchange` prepares an exchange, `complete` awaits what is left to do for one and answers what that raises,
    `conclude` is called with those that end here.
    """

    def __init__(
        self,
        serving: Serving,
        *,
        open_exchange: Callable[[Exchange], None],
        complete: Callable[[Exchange, Awaitable[None]], Awaitable[None]],
        conclude: Callable[[Exchange], None],
    ) -> None:
        self.forwarder = serving.forwarder
        self.complete = complete
        self.conclude = conclude
        self.open: set[_Passage] = set()
        self._authenticator = serving.authenticator
        self._routes = serving.routes
        self._demand = serving.demand
        self._open_exchange = open_exchange

    def take(self, client: Client) -> bool:
        """Send the request on if it can go this way. Otherwise nothing has happened, and the client is to be served."""
        transfer = self._prepare(client)
        if transfer is None:
            return False
        exchange = transfer.exchange
        connection = self.forwarder.take_idle(transfer.route, exchange.received_s)
        client.drop_body()
        self._open_exchange(exchange)
        _Passage(self, client, transfer).begin(connection)
        return True

    def _prepare(self, client: Client) -> Transfer | None:
        scope = client.scope
        path: str = scope["path"]
        if scope["method"] != "POST" or not path.startswith("/v1/") or path.startswith("/v1/models"):
            return None
        headers, query = scope["headers"], scope["query_string"]
        principal = self._authenticator.recall_inference(headers, query)
        kind = find_header(headers, b"content-type")
        if principal is None or principal.quotas or is_multipart(kind) or not self._routes.is_loaded:
            return None  # the totals that a quota needs may have to be asked for first
        try:
            named = name_body(kind, client.peek_body(), find_query_model(query))
            route, wanted = self._routes.resolve_model(named.model) or (None, None)
            exchange = Exchange(scope, client.receive, client.send)
            if route is None or not principal.may_use(route.instance_id) or not self._demand.is_open(exchange, route):
                return None
            exchange.principal, exchange.model = principal, named.model
            body = guard_body(route, named.ask_for(wanted))
            return self.forwarder.prepare(exchange, route, exchange.raw_path, drop_query_key(query), body)
        except Exception:  # noqa: BLE001  who serves the client finds the same, and answers it
            return None

    def close(self) -> None:
        """Break off what is still on its way."""
        for passage in list(self.open):
            passage.transfer.exchange.abandon()


class _Passage:
    """One request on this way."""

    __slots__ = ("_client", "_connection", "_dialling", "_is_reused", "_way", "transfer")

    _connection: UpstreamConnection
    _dialling: asyncio.Task[None]

    def __init__(self, way: DirectWay, client: Client, transfer: Transfer) -> None:
        self.transfer = transfer
        self._way = way
        self._client = client
        self._is_reused = False

    def begin(self, connection: UpstreamConnection | None) -> None:
        """Send the request on the idle connection, or on a new one."""
        transfer = self.transfer
        self._way.open.add(self)
        self._client.on_departure = transfer.exchange.abandon
        self._way.forwarder.begin(transfer)
        if connection is None:
            self._dialling = asyncio.get_running_loop().create_task(self._dial())
        else:
            self._is_reused = True
            self._send(connection)

    async def _dial(self) -> None:
        try:
            connection = await self._way.forwarder.dial(self.transfer)
        except Exception as error:  # noqa: BLE001  it is raised again where it is handled
            self._hand_over(error)
            return
        self._send(connection)
        if connection.is_lost:  # before anybody listened
            self.hear()

    def _send(self, connection: UpstreamConnection) -> None:
        self._connection = connection
        connection.listener = self.hear
        self._way.forwarder.send(self.transfer, connection)

    def hear(self) -> None:
        """Send on what has come of the answer."""
        connection, client, transfer = self._connection, self._client, self.transfer
        if not connection.head_complete and not connection.is_lost:
            return  # an interim answer
        if not connection.head_complete or not client.can_write or (connection.is_lost and not connection.is_complete):
            self._hand_over()
            return
        try:
            if not transfer.is_begun:
                headers = self._way.forwarder.begin_answer(transfer, connection)
                client.begin_answer(connection.status, headers, has_trailers=transfer.sends_trailers)
                transfer.body.data = b""
            if transfer.sends_trailers:
                client.flush_head()
                self._hand_over()
                return
            is_over = self._send_on()
        except Exception as error:  # noqa: BLE001  it is raised again where it is handled, and leaves the engine alone
            self._hand_over(error)
            return
        if is_over:  # not to be done again by who handles errors
            self._forget()
            self._way.forwarder.end(transfer)
            self._way.conclude(transfer.exchange)

    def _send_on(self) -> bool:
        """Returns whether that was the end."""
        exchange, reader, connection = self.transfer.exchange, self.transfer.reader, self._connection
        data, is_complete = connection.take(), connection.is_complete
        exchange.sent_bytes += len(data)
        if is_complete:
            exchange.is_answered = True
        elif not data:
            self._client.flush_head()
            return False
        self._client.write_body(data, more_body=not is_complete)
        if reader is not None and data:
            reader.feed(data)
        return is_complete

    def _forget(self) -> None:
        connection = self.transfer.exchange.connection
        if connection is not None:
            connection.listener = None
        self._client.on_departure = None  # it would keep client and exchange alive through each other
        self._way.open.discard(self)

    def _hand_over(self, error: Exception | None = None) -> None:
        """Let a task do the rest."""
        self._forget()
        self._client.on_departure = self.transfer.exchange.abandon

        async def finish(scope: Scope, receive: Receive, send: Send) -> None:
            await self._way.complete(self.transfer.exchange, self._finish(error))

        self._client.start(finish)

    async def _finish(self, error: Exception | None) -> None:
        try:
            if error is not None:
                self._way.forwarder.end(self.transfer)
                raise error
            await self._way.forwarder.go_on(self.transfer, self._connection, is_reused=self._is_reused)
        finally:
            error = None  # its traceback holds this frame: the request would wait for the garbage collector
            self._client.on_departure = None
