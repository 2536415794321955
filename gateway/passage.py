"""One request on the short way (`gateway.direct`): a state that goes on with each piece of news, instead of a task."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from gateway.asgi import ASGIApp, Headers, Receive, Scope, Send
from gateway.chunks import read_chunks
from gateway.errors import ClientGone
from gateway.exchange import Exchange
from gateway.facts import AnswerFacts, RequestFacts
from gateway.forward import Forwarder
from gateway.headers import write_lines
from gateway.known_head import KnownHead
from gateway.transfer import Transfer
from gateway.turns import TurnQueue
from gateway.upstream import UpstreamConnection


class Client(Protocol):
    """A request whose body is here, and its answer, at a server that offers more than ASGI does."""

    scope: Scope
    head: KnownHead[RequestFacts] | None
    """What is known of the request's head, if the connection's next request may come with the same one."""
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

    def write_chunks(self, data: bytes) -> bool:
        """Whole chunks of the body, framed; False if the answer isn't sent in chunks or this is no time for more."""

    def write_answer(self, status: int, lines: bytes, body: bytes, *, has_date: bool) -> None:
        """The whole answer at once: header lines as they are to be sent, with a `Date` if that is said, and a body.

        None of the lines tells how long it is or what becomes of the connection. Raises RuntimeError as `send` does.
        """

    def start(self, app: ASGIApp) -> None:
        """Run an application for the rest of the answer."""


class Way(Protocol):
    """What a passage needs of the way it is on."""

    forwarder: Forwarder
    turns: TurnQueue
    open: set[Passage]
    """Those that are not over."""
    complete: Callable[[Exchange, Awaitable[None]], Awaitable[None]]
    """Awaits what is left to do for an exchange and answers what that raises."""
    conclude: Callable[[Exchange], None]
    """To be called with an exchange that is over, unless `complete` was."""


class Passage:
    """One request, from `begin` on."""

    __slots__ = ("_client", "_connection", "_dialling", "_is_reused", "_is_roused", "_way", "transfer")

    _connection: UpstreamConnection
    _dialling: asyncio.Task[None]

    def __init__(self, way: Way, client: Client, transfer: Transfer) -> None:
        self.transfer = transfer
        self._way = way
        self._client = client
        self._is_reused = False
        self._is_roused = True

    def begin(self) -> None:
        """Have the request sent."""
        self._way.open.add(self)
        self._client.on_departure = self.transfer.exchange.abandon
        self._way.forwarder.begin(self.transfer)
        self._way.turns.add(self.go_on)

    def hear(self) -> None:
        """Have what has come of the answer sent on."""
        if not self._is_roused:
            self._is_roused = True
            self._way.turns.add(self.go_on)

    def go_on(self) -> None:
        """Do what there is to do now."""
        self._is_roused = False
        if self.transfer.exchange.connection is None:
            self._send_request()
        else:
            self._send_answer()

    def _send_request(self) -> None:
        """Send it on an idle connection, or on a new one."""
        transfer = self.transfer
        if transfer.exchange.client_gone:
            self._hand_over(ClientGone())
            return
        try:
            connection = self._way.forwarder.take_idle(transfer.route, transfer.exchange.received_s)
            if connection is None:
                self._dialling = asyncio.get_running_loop().create_task(self._dial())
            else:
                self._is_reused = True
                self._send(connection)
        except Exception as error:  # noqa: BLE001  it is raised again where it is handled
            self._hand_over(error)

    async def _dial(self) -> None:
        try:
            connection = await self._way.forwarder.dial(self.transfer)
            self._send(connection)
        except Exception as error:  # noqa: BLE001  it is raised again where it is handled
            self._hand_over(error)
            return
        if connection.is_lost:  # before anybody listened
            self.hear()

    def _send(self, connection: UpstreamConnection) -> None:
        self._connection = connection
        connection.listener = self.hear
        self._way.forwarder.send(self.transfer, connection)

    def _send_answer(self) -> None:
        """Send on what has come of it."""
        connection, client = self._connection, self._client
        if not connection.head_complete and not connection.is_lost:
            return  # an interim answer
        if not connection.head_complete or not client.can_write or (connection.is_lost and not connection.is_complete):
            self._hand_over()
            return
        try:
            is_over = self._send_on() if connection.known is None else self._send_whole(connection.known)
        except Exception as error:  # noqa: BLE001  it is raised again where it is handled, and leaves the engine alone
            self._hand_over(error)
            return
        if is_over:  # not to be done again by who handles errors
            self._forget()
            self._way.forwarder.end(self.transfer)
            self._way.turns.add_later(partial(self._way.conclude, self.transfer.exchange))
        elif self.transfer.sends_trailers:
            self._hand_over()

    def _send_on(self) -> bool:
        """Send on a piece, with the answer's head before the first. Returns whether that was the end of the answer."""
        transfer, client, connection = self.transfer, self._client, self._connection
        if not transfer.is_begun:
            headers = self._way.forwarder.begin_answer(transfer, connection)
            client.begin_answer(connection.status, headers, has_trailers=transfer.sends_trailers)
            transfer.body.data = b""
        if transfer.sends_trailers:
            client.flush_head()
            return False
        exchange, reader = transfer.exchange, transfer.reader
        data, is_complete = connection.take(), connection.is_complete
        exchange.sent_bytes += len(data)
        if is_complete:
            exchange.is_answered = True
        elif not data:
            client.flush_head()
            return False
        client.write_body(data, more_body=not is_complete)
        if reader is not None and data:
            reader.feed(data)
        if not is_complete:
            connection.offer_chunks(self._pass_on)
        return is_complete

    def _pass_on(self, data: bytes) -> bool:
        """Send chunks on as they came. Returns whether they were that and the client takes them so."""
        body = read_chunks(data)
        if body is None or not self._client.write_chunks(data):
            return False
        transfer = self.transfer
        transfer.exchange.sent_bytes += len(body)
        if transfer.reader is not None:
            transfer.reader.feed(body)
        return True

    def _send_whole(self, known: KnownHead[AnswerFacts]) -> bool:
        """Send on an answer that is all there and came with a known head."""
        transfer, connection = self.transfer, self._connection
        exchange, facts = transfer.exchange, known.facts
        if facts is None:
            facts = known.facts = AnswerFacts(connection.headers)
        self._way.forwarder.note_answer(transfer, connection)
        transfer.body.data = b""
        body = connection.take()
        exchange.sent_bytes = len(body)
        exchange.is_answered = True
        lines = facts.lines + write_lines(exchange.extra_headers)
        self._client.write_answer(connection.status, lines, body, has_date=facts.has_date)
        if transfer.reader is not None:
            transfer.reader.feed(body)
        return True

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
            nonlocal error
            work, error = self._finish(error), None  # its traceback will hold this frame
            await self._way.complete(self.transfer.exchange, work)

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
