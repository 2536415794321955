"""One HTTP request and its answer, between the protocol and the ASGI application.

It takes the place of uvicorn's ``RequestResponseCycle``, whose share of a forwarded request was a third: the head of an
answer leaves in one write with the first piece of its body, an event and two callbacks less are made per request, and
an answer that has a ``Date`` gets no second one. Lengths, framing and failures are handled as uvicorn does, except that
an HTTP/1.0 client gets no chunks, which it could not read (RFC 9112, 6.1).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState

from gateway.asgi import ASGIApp, Headers, Message, Scope
from gateway.headers import write_lines
from gateway.known_head import KnownHead

logger = logging.getLogger("uvicorn.error")

#: Bytes up to which copying a piece beside its head or frame is cheaper than writing it by itself.
JOINED_LIMIT = 64 * 2**10
#: Answers that never have a body (RFC 9110, 15.3.5 and 15.4.5).
BODYLESS = (204, 304)
#: Headers of an answer that the server acts upon.
_MEANINGFUL = frozenset((b"content-length", b"transfer-encoding", b"date", b"connection"))
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(Protocol):
    """What a cycle needs of its connection."""

    transport: asyncio.Transport
    flow: FlowControl
    loop: asyncio.AbstractEventLoop
    server_state: ServerState

    def resume_reading(self) -> None:
        """There may be room for more of what comes in."""

    def on_response_complete(self) -> None:
        """The answer is written."""

    def close_gently(self) -> None:
        """Close although the client may still be sending."""

    def start_cycle(self, cycle: HttpCycle, app: ASGIApp) -> None:
        """Let the application answer."""


class HttpCycle:
    """``receive`` and ``send`` of one request."""

    # What most requests leave as it is stands here once, instead of being written into each cycle.
    disconnected = False
    head: KnownHead[Any] | None = None
    """What is known of the request's head, if the connection's next request may come with the same one."""
    on_departure: Callable[[], None] | None = None
    """Called when the client goes before the answer is complete."""
    response_started = False
    response_complete = False
    # The request's body
    _size = 0
    _more_body = True
    _has_news = False
    # The answer
    _head = b""
    _flushing: asyncio.Handle | None = None
    _is_chunked = False
    _has_trailers = False
    _trailers: list[bytes] | None = None
    """The lines of a trailer, once the body is complete and they are awaited."""
    _left: int | None = None
    """Bytes of the body that are still to come; None when it has no announced length."""

    def __init__(self, connection: Connection, scope: Scope, *, keep_alive: bool, expects_continue: bool) -> None:
        self.scope = scope
        self.keep_alive = keep_alive
        self._connection = connection
        self._transport = connection.transport
        self._flow = connection.flow
        self._waits_for_continue = expects_continue
        self._is_head_request = scope["method"] == "HEAD"
        self._pieces: list[bytes] = []
        self._waiters: list[asyncio.Future[None]] = []

    async def run(self, app: ASGIApp) -> None:
        """Let the application answer; what it leaves undone becomes a 500 or a broken connection."""
        try:
            await app(self.scope, self.receive, self.send)
        except BaseException as error:
            logger.error("Exception in ASGI application\n", exc_info=error)  # noqa: TRY400  also when cancelled
            self._fail()
        else:
            if not self.response_complete and not self.disconnected:
                said = "completing" if self.response_started else "starting"
                logger.error("ASGI callable returned without %s response.", said)
                self._fail()
        finally:
            connection = self._connection
            task = asyncio.current_task(connection.loop)
            connection.server_state.tasks.discard(task)

    # What the protocol tells

    def take_body(self, piece: bytes) -> None:
        """Take a piece of the body; reading pauses while too much of it waits for the application."""
        self._pieces.append(piece)
        self._size += len(piece)
        if self.is_full:
            self._flow.pause_reading()
        self.wake()

    def give_body(self, body: bytes) -> None:
        """Take the whole body of a request that nobody has looked at yet."""
        self._pieces, self._size = [body], len(body)
        self._more_body, self._has_news = False, True

    def end_body(self) -> None:
        """The request is complete."""
        self._more_body = False
        self.wake()

    def disconnect(self) -> None:
        """The client has gone."""
        if not self.response_complete:
            self.disconnected = True
            if self.on_departure is not None:
                self.on_departure()
        self.wake()

    def wake(self) -> None:
        """Let ``receive`` look again."""
        self._has_news = True
        waiters = self._waiters
        if waiters:
            self._waiters = []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    # What an application may do that can do without a task (`gateway.direct`)

    @property
    def awaits_body(self) -> bool:
        """Whether some of the request is still to come."""
        return self._more_body

    @property
    def is_full(self) -> bool:
        """Whether as much of the body waits for the application as may."""
        return self._size > HIGH_WATER_LIMIT

    @property
    def has_whole_body(self) -> bool:
        """Whether all of the request has come."""
        return not self._more_body and not self._waits_for_continue

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for ``100 Continue`` before it sends the body."""
        return self._waits_for_continue

    @property
    def can_write(self) -> bool:
        """Whether the client is there and reads."""
        return not (self._flow.write_paused or self.disconnected)

    def peek_body(self) -> bytes:
        """Return what has come of the body; ``receive`` still brings it."""
        pieces = self._pieces
        if len(pieces) != 1:
            pieces = self._pieces = [b"".join(pieces)]
        return pieces[0]

    def drop_body(self) -> None:
        """Bring nothing more by ``receive`` but the client's departure, which only reading shows."""
        self._pieces, self._size, self._has_news = [], 0, False
        if self._flow.read_paused:
            self._connection.resume_reading()

    def begin_answer(self, status: int, headers: Headers, *, has_trailers: bool) -> None:
        """Begin the answer; its head leaves with the first piece of the body, or by ``flush_head``."""
        self._head = self._build_head(status, headers)
        self._has_trailers = has_trailers
        self.response_started = True
        self._waits_for_continue = False

    def write_answer(self, status: int, lines: bytes, body: bytes, *, has_date: bool) -> None:
        """Write a whole answer to a request that is not HEAD: header lines as they are, the length, and the body.

        The lines must hold nothing on framing or the connection, and no line breaks or NULs within.
        """
        self.response_started = True
        self._waits_for_continue = False
        if not has_date:
            lines += write_lines(self._connection.server_state.default_headers)
        ending = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        head = b"%bcontent-length: %d\r\n%b" % (STATUS_LINE[status] + lines, len(body), ending)
        if len(body) <= JOINED_LIMIT:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)
        self._complete()

    def start(self, app: ASGIApp) -> None:
        """Let an application do the rest, in a task."""
        self._connection.start_cycle(self, app)

    # ASGI

    async def receive(self) -> Message:
        """Return what has come of the body, or that the client has gone."""
        if self._waits_for_continue and not self._transport.is_closing():
            self._transport.write(CONTINUE)
            self._waits_for_continue = False
        if not (self.disconnected or self.response_complete):
            while not self._has_news:
                waiter = self._connection.loop.create_future()
                self._waiters.append(waiter)
                await waiter
            self._has_news = False
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        pieces = self._pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._pieces, self._size = [], 0
        if self._flow.read_paused:
            self._connection.resume_reading()
        return {"type": "http.request", "body": body, "more_body": self._more_body}

    async def send(self, message: Message) -> None:
        """Write a part of the answer; waits while the client does not read."""
        if self._flow.write_paused and not self.disconnected:
            await self._flow.drain()
        if self.disconnected:
            return
        kind = message["type"]
        if self._trailers is not None:
            self._take_trailers(message, self._trailers)
        elif kind == "http.response.body" and self.response_started and not self.response_complete:
            self.write_body(message.get("body", b""), more_body=message.get("more_body", False))
        elif kind == "http.response.start" and not self.response_started:
            has_trailers = message.get("trailers", False)
            self.begin_answer(message["status"], message.get("headers", ()), has_trailers=has_trailers)
            # Usually the body's first piece comes before this and takes the head along.
            self._flushing = self._connection.loop.call_soon(self.flush_head)
        else:
            raise RuntimeError(f"The ASGI message {kind!r} must not be sent at this point of an answer.")

    def _build_head(self, status: int, headers: Any) -> bytes:
        lines = [STATUS_LINE[status]]
        is_chunked, left, has_date, says_close = False, None, False, False
        for name, value in headers:
            lines.append(b"%b: %b\r\n" % (name, value))
            name = name.lower()  # noqa: PLW2901  Django writes names in mixed case
            if name not in _MEANINGFUL:
                continue
            if name == b"content-length":
                left = None if is_chunked else int(value)
            elif name == b"date":
                has_date = True
            elif name == b"transfer-encoding" and value.lower() == b"chunked":
                is_chunked, left = True, None
            elif name == b"connection" and b"close" in [word.strip() for word in value.lower().split(b",")]:
                self.keep_alive, says_close = False, True
        if not has_date:
            lines += [b"%b: %b\r\n" % header for header in self._connection.server_state.default_headers]
        if self._is_head_request or status in BODYLESS:
            left = 0
        elif left is None and not is_chunked and self.scope["http_version"] == "1.1":
            is_chunked = True
            lines.append(b"transfer-encoding: chunked\r\n")
        elif left is None and not is_chunked:
            self.keep_alive = False  # the end of the connection is the end of the body
        if not self.keep_alive and not says_close:
            lines.append(b"connection: close\r\n")
        head = b"".join(lines) + b"\r\n"
        check_lines(head, len(lines) + 1)
        self._is_chunked, self._left = is_chunked, left
        return head

    def write_body(self, body: bytes, *, more_body: bool) -> None:
        """Write a piece of the body, with the head before the first and the end after the last."""
        if self._is_head_request:
            body = b""
        elif self._left is not None:
            self._left -= len(body)
            if self._left < 0:
                raise RuntimeError("Response content longer than Content-Length")
        if self._is_chunked and not self._is_head_request:
            if body:
                body = b"%x\r\n%b\r\n" % (len(body), body)
            if not more_body and not self._has_trailers:
                body += b"0\r\n\r\n"
        head = self._head
        if head and len(body) <= JOINED_LIMIT:
            self._forget_head()
            self._transport.write(head + body if body else head)
        elif body:
            self.flush_head()
            self._transport.write(body)
        if not more_body:
            if self._left:
                raise RuntimeError("Response content shorter than Content-Length")
            if self._has_trailers:
                self._trailers = []
            else:
                self._complete()

    def write_chunks(self, data: bytes) -> bool:
        """Write whole chunks of the body as they are; False if it isn't sent in chunks or the client does not read."""
        if not self._is_chunked or self._head or self._flow.write_paused or self._is_head_request:
            return False
        self._transport.write(data)
        return True

    def _take_trailers(self, message: Message, lines: list[bytes]) -> None:
        if message["type"] != "http.response.trailers" or self.response_complete:
            raise RuntimeError(f"The ASGI message {message['type']!r} must not be sent after the body of an answer.")
        lines += [b"%b: %b\r\n" % (name, value) for name, value in message.get("headers", ())]
        if message.get("more_trailers", False):
            return
        trailer = b"".join(lines)
        check_lines(trailer, len(lines))
        self.flush_head()
        if self._is_chunked and not self._is_head_request:
            self._transport.write(b"0\r\n%b\r\n" % trailer)
        self._complete()

    def _complete(self) -> None:
        self.response_complete = True
        self.wake()
        if not self.keep_alive and self._more_body:
            self._connection.close_gently()
        elif not self.keep_alive:
            self._transport.close()
        self._connection.on_response_complete()

    def flush_head(self) -> None:
        """Write the answer's head if that hasn't left yet."""
        head = self._head
        if head:
            self._forget_head()
            if not self._transport.is_closing():
                self._transport.write(head)

    def _forget_head(self) -> None:
        self._head = b""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None

    def _fail(self) -> None:
        if self.disconnected:
            return
        if self.response_started:
            self.flush_head()
            self._transport.close()
            return
        body = b"Internal Server Error"
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
        self._head = self._build_head(500, [*headers, (b"connection", b"close")])
        self.response_started = True
        self.write_body(body, more_body=False)


def check_lines(fields: bytes, count: int) -> None:
    """Raise RuntimeError when a field has CR, LF or NUL in its name or value (RFC 9110, 5.5), of ``count`` lines."""
    if fields.count(b"\n") != count or fields.count(b"\r") != count or b"\0" in fields:
        raise RuntimeError("A header of the answer contains a line break or a NUL.")
