"""uvicorn's HTTP protocol with bounds on what a client may send before its request is understood, and less to do.

httptools joins the pieces of a header as they come, so the cost of an endless one grows with its square and holds up
every other request of the process; and nothing ends a connection that never finishes its head. Requests and answers
are `HttpCycle`'s; one timer serves a connection for life, where uvicorn makes one after each request.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import urllib.parse
from collections.abc import Callable
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.asgi import ASGIApp, Receive, Scope, Send, find_header
from gateway.known_head import KnownHead, learn_head
from portal import http_refusals as refusals
from portal.http_cycle import HttpCycle

#: Bytes of a request's line and headers, or of trailers. Cookies and keys need a few hundred; nginx allows 32 KiB.
HEAD_LIMIT = 64 * 2**10
#: Seconds that a head may take from the connection or its first byte on; at most twice that, as the timer ticks so.
HEAD_TIMEOUT_S = 30.0
#: What is offered beyond HTTP's core messages. Trailers of answers that are not chunked are dropped.
EXTENSIONS: dict[str, dict[str, Any]] = {"http.response.trailers": {}}
#: Bytes of an announced body that is worth waiting for, and how long: many clients send it apart from the head.
SOON_LIMIT = 64 * 2**10
SOON_S = 0.02
#: Seconds for a request on a connection that was just being accepted when the server began to stop.
LATE_S = 0.5
#: Looks at the timer during which nothing of a body comes, after which it is given up: 60 to 90 s.
BODY_PATIENCE = 3
#: Requests that may wait behind the one in work on a connection.
PIPELINE_LIMIT = 128
#: Seconds for a client that was sending to read the last answer.
LINGER_S = 2.0
#: While a request is in work.
NEVER = float("inf")


class BoundedHttpProtocol(HttpToolsProtocol):
    """Refuses heads larger than HEAD_LIMIT (RFC 6585, 5: status 431) and closes connections that send none in time.

    An ``Upgrade`` to anything but a WebSocket is ignored (RFC 9110, 7.8), and so is one to a WebSocket by a request
    that is none of its handshakes. Of uvicorn's configuration, ``root_path``, ``limit_concurrency`` and access logs
    have no effect here.
    """

    _unread = 0
    _hosts = 0
    _is_upgrade = False
    _deadline = NEVER
    _timer: asyncio.TimerHandle | None = None
    scope: Any
    parser: Any
    server_state: Any
    _latest: HttpCycle | None = None
    _active: HttpCycle | None = None
    _fresh: ASGIApp | None = None
    """The application for the active request, as long as that isn't started."""
    _patience: asyncio.TimerHandle | None = None
    """Ends the wait for the rest of a short request: of one that was parsed, or else of one in ``_held``."""
    _known: KnownHead[Any] | None = None
    """The head by which the next request may be known, mostly the last one's; its scope is ``_known_scope``."""
    _known_scope: Any = None
    _newest: ClassVar[tuple[KnownHead[Any], Any] | None] = None
    """The last of those of any connection: a program that opens many sends the same head on each."""
    _held = b""
    """A known head whose short body is still to come; the parser hasn't seen it."""
    _is_between = True
    """Whether the parser has seen nothing of the next request."""
    _refusal = b""
    """What is left to say before the connection ends, once the requests before it are answered."""
    _is_deaf = False
    """Whether nothing that comes is looked at any more."""
    _idle_ticks = 0
    """Looks at the timer since a piece of a body came that is waited for."""

    # The connection

    def connection_made(self, transport: Any) -> None:
        """Expect a head."""
        self.connections.add(self)
        self.transport = transport
        self.flow = FlowControl(transport)
        self.server = read_address(transport, "sockname")
        self.client = read_address(transport, "peername")
        self.scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        self._queue: list[tuple[HttpCycle, ASGIApp]] = []
        self._asgi = {"version": self.asgi_version, "spec_version": "2.3"}
        self._take: Callable[[HttpCycle], bool] | None = getattr(self.app, "take", None)
        if self._newest is not None:
            self._known, self._known_scope = self._newest
        self._deadline = self.loop.time() + HEAD_TIMEOUT_S
        self._tick()
        if getattr(self.server_state, "is_stopping", False):
            self.loop.call_later(LATE_S, self.shutdown)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the application."""
        self._stop_timer()
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        self.connections.discard(self)
        if self._active is not None:
            self._active.disconnect()
        self.flow.resume_writing()
        if exc is None:
            self.transport.close()
        # They hold on to this connection in their turn, and the memory would wait for the garbage collector.
        self.parser = self._active = self._latest = self._fresh = None
        self._queue.clear()

    def shutdown(self) -> None:
        """Begin to stop with the server: streams that never end by themselves are ended, other answers finish."""
        self.server_state.is_stopping = True
        end_streams = getattr(self.config.loaded_app, "end_streams", None)
        if end_streams is not None:
            end_streams()
        if self._latest is None or self._latest.response_complete:
            self.transport.close()
        else:
            self._latest.keep_alive = False

    def data_received(self, data: bytes) -> None:
        """Take what came: parse it, unless it is the last request's head again with the whole of a body."""
        if self._refusal or self._is_deaf:
            return
        if self._held:
            data, self._held = self._held + data, b""
        if self._known is None or not self._is_between or not self._take_known(self._known, data):
            self._parse(data)

    def _take_known(self, known: KnownHead[Any], data: bytes) -> bool:
        """Begin a request with the known head. False leaves all of it to the parser."""
        latest, measured = self._latest, known.measure(data)
        is_free = latest is None or latest.response_complete
        if measured is None or not is_free or self.transport.is_closing():
            return False
        begin, digits = measured
        missing = begin + int(digits) - len(data)
        if missing:
            if missing < 0 or int(digits) > SOON_LIMIT:
                return False
            self._held = data
            if self._patience is None:
                self._patience = self.loop.call_later(SOON_S, self._stop_holding)
            return True
        self._unread, self._deadline = 0, NEVER
        scope = {
            **self._known_scope,
            "headers": known.make_headers(digits),
            "client": self.client,
            "server": self.server,
            "state": self.app_state.copy(),
        }
        cycle = HttpCycle(self, scope, keep_alive=True, expects_continue=False)
        cycle.head = known
        cycle.give_body(data[begin:])
        self._latest = self._active = cycle
        self._fresh = self.app
        self._launch()
        return True

    def _stop_holding(self) -> None:
        """Parse what was held: the body takes its time."""
        self._patience = None
        data, self._held = self._held, b""
        if data:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        """Parse what came, and count what made no head and no body of it."""
        is_at_beginning, before = self._is_between, self._latest
        self._unread += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as pause:
            self._settle_upgrades(memoryview(data)[pause.args[0] :])
        except httptools.HttpParserError:
            self._refuse(refusals.INVALID)
        if self._unread > HEAD_LIMIT and not self.transport.is_closing():
            self._refuse(refusals.TOO_LARGE)
        if is_at_beginning and self._latest is not before:
            self._learn(data)
        if self._fresh is not None and not self._expects_rest_soon():
            self._launch()

    def _learn(self, data: bytes) -> None:
        """Know the next request by the head with which `data` begins, if that is one of the kind."""
        cycle, self._known = self._latest, None
        if cycle is not None and cycle is self._active and cycle.keep_alive and not cycle.expects_continue:
            scope = self._known_scope = {**cycle.scope}  # applications write into theirs
            self._known = cycle.head = learn_head(data, scope["headers"].copy())
            if self._known is not None:
                BoundedHttpProtocol._newest = self._known, scope

    def _expects_rest_soon(self) -> bool:
        """Whether to wait a moment for the rest of the active request, as it could then be answered without a task."""
        cycle = self._active
        if self._take is None or cycle is None or cycle.has_whole_body or cycle.expects_continue:
            return False
        if self._patience is not None:
            return True
        length = find_header(cycle.scope["headers"], b"content-length")
        is_short = length is not None and length.isdigit() and len(length) <= len(str(SOON_LIMIT))
        if not is_short or int(length or b"0") > SOON_LIMIT or self.transport.is_closing():
            return False
        self._patience = self.loop.call_later(SOON_S, self._launch)
        return True

    def _settle_upgrades(self, rest: memoryview) -> None:
        # The parser stops behind each head with an Upgrade and takes it for one without a body, and behind one with
        # "close" for the last. If it is ignored, a new parser gets the head without that header and what follows.
        while True:
            method, version = self.parser.get_method(), self.parser.get_http_version()
            is_free = self._latest is None or self._latest.response_complete
            if method == b"CONNECT":
                self._refuse(refusals.NO_TUNNEL)
                return
            if is_free and version == "1.1" and is_handshake(method, self.url, self.headers):
                self.handle_websocket_upgrade()
                return
            lines = [b"%b %b HTTP/%b" % (method, self.url, version.encode())]
            lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
            try:
                self.parser.feed_data(b"\r\n".join(lines) + b"\r\n\r\n")
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as pause:
                rest = rest[pause.args[0] :]
            except httptools.HttpParserError:
                self._refuse(refusals.INVALID)
                return
            else:
                return

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over: at once to the application, or it ends, so that no handshake stays half done."""
        self._stop_timer()
        self.scope = {"method": "GET", "headers": self.headers}
        super().handle_websocket_upgrade()
        protocol: Any = self.transport.get_protocol()
        if not protocol.handshake_initiated:
            self._refuse(refusals.TOO_LARGE_HANDSHAKE)

    def _refuse(self, answer: bytes) -> None:
        """End the connection with this answer, in its turn: not in place of another one, nor in the middle of it."""
        if self._refusal or self._is_deaf or self.transport.is_closing():
            return
        cycle = self._latest
        if cycle is not None and cycle.awaits_body and not cycle.response_complete:
            # It is this request that goes wrong.
            if cycle is self._active:
                self._fresh = None
                self._end(b"" if cycle.response_started else answer)
                return
            self._queue.pop()
        if self._active is None or self._active.response_complete:
            self._end(answer)
        else:
            self._refusal = answer

    def _end(self, answer: bytes) -> None:
        self.transport.write(answer)
        self.close_gently()
        if self._active is not None:
            self._active.disconnect()

    def close_gently(self) -> None:
        """Close in a moment (RFC 9112, 9.6): with input unread, closing at once would reset what was written last."""
        if self.transport.is_closing() or not self.transport.can_write_eof():
            self.transport.close()
            return
        self._is_deaf = True
        self.transport.write_eof()
        self.flow.resume_reading()
        self._stop_timer()
        self._timer = self.loop.call_later(LINGER_S, self.transport.close)

    def resume_reading(self) -> None:
        """Read on, unless the request that comes in has brought as much as may wait."""
        latest = self._latest
        if latest is None or latest.response_complete or not latest.is_full:
            self.flow.resume_reading()

    # The parser

    def on_message_begin(self) -> None:
        """A head has begun."""
        self._is_between = False
        self._deadline = self.loop.time() + HEAD_TIMEOUT_S
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._hosts = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or a field of a trailer."""
        name = name.lower()
        if name == b"host":
            self._hosts += 1
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Start the application, or queue the request behind the one that is in work.

        Reading goes on meanwhile: only so it is noticed that the client goes.
        """
        if len(self._queue) >= PIPELINE_LIMIT:
            self._refuse(refusals.TOO_MANY)
        if self._refusal or self._is_deaf:
            raise ConnectionError("nothing more is taken on this connection")  # ends the parser's work
        self._unread, self._deadline = 0, NEVER
        parser = self.parser
        self._is_upgrade = parser.should_upgrade()
        if self._is_upgrade:
            return  # see `_settle_upgrades`
        version = parser.get_http_version()
        raw_path, query = split_target(self.url)
        path = raw_path.decode("ascii")
        scope = {
            "type": "http",
            "asgi": self._asgi,
            "http_version": version,
            "method": parser.get_method().decode("ascii"),
            "scheme": self.scheme,
            "path": urllib.parse.unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": self.headers,
            "client": self.client,
            "server": self.server,
            "state": self.app_state.copy(),
            "extensions": EXTENSIONS,
        }
        self.headers = []  # what a trailer brings must not pass for a header (RFC 9110, 6.5.1)
        is_valid = self._hosts == 1 or (self._hosts == 0 and version != "1.1")
        cycle = HttpCycle(
            self,
            scope,
            keep_alive=is_valid and version != "1.0" and parser.should_keep_alive(),
            expects_continue=self.expect_100_continue,
        )
        app = self.app if is_valid else refuse_hosts
        before, self._latest = self._latest, cycle
        if before is None or before.response_complete:
            self._active, self._fresh = cycle, app  # its body may be in what is being parsed
        else:
            self._queue.append((cycle, app))

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body; nobody wants it any more when the answer is complete."""
        self._unread = self._idle_ticks = 0
        cycle = self._latest
        if cycle is not None and not cycle.response_complete:
            cycle.take_body(body)

    def on_message_complete(self) -> None:
        """Note the end of a request."""
        self._unread, self._is_between = 0, True
        cycle = self._latest
        if cycle is not None and not self._is_upgrade and not cycle.response_complete:
            cycle.end_body()

    # The cycle

    def on_response_complete(self) -> None:
        """Go on with the next request, or wait for one."""
        self.server_state.total_requests += 1
        if self._is_deaf or self.transport.is_closing():
            return
        if self._queue:
            self._active, self._fresh = self._queue.pop(0)
            self.resume_reading()
            self._launch()
        elif self._refusal:
            self._end(self._refusal)
        else:
            self.flow.resume_reading()
            if self._deadline == NEVER:  # no head has begun
                self._deadline = self.loop.time() + self.timeout_keep_alive

    def _launch(self) -> None:
        """Hand the active request to the application: at once if that can answer it so, else in a task."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        cycle, app, self._fresh = self._active, self._fresh, None
        if cycle is None or app is None:
            return
        if self._take is None or app is not self.app or not cycle.has_whole_body or not self._take(cycle):
            self.start_cycle(cycle, app)

    def start_cycle(self, cycle: HttpCycle, app: ASGIApp) -> None:
        """Let the application answer in a task."""
        self.tasks.add(self.loop.create_task(cycle.run(app)))

    # The timer

    def _tick(self) -> None:
        self._idle_ticks = self._idle_ticks + 1 if self._expects_body_now() else 0
        if self._idle_ticks >= BODY_PATIENCE:
            self._refuse(refusals.TOO_SLOW)
            if self._is_deaf:
                return
        left_s = self._deadline - self.loop.time()
        if left_s > 0 or (self._active is not None and not self._active.response_complete):
            delay_s = left_s if 0 < left_s < HEAD_TIMEOUT_S else HEAD_TIMEOUT_S
            self._timer = self.loop.call_later(delay_s, self._tick)
        else:
            self._timer = None
            self.transport.close()

    def _expects_body_now(self) -> bool:
        """Whether only the client keeps the rest of a body from coming, and no answer has begun that it waits for."""
        cycle = self._latest
        if cycle is None or cycle.response_started or self.flow.read_paused:
            return False
        return cycle.awaits_body and not cycle.expects_continue

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def read_address(transport: asyncio.BaseTransport, name: str) -> tuple[str, Any] | None:
    """Host and port of one end of a connection, None when there are none.

    uvicorn asks a copy of the socket, which takes ten calls of the system; the transport knows them.
    """
    address = transport.get_extra_info(name)
    if isinstance(address, str):  # a Unix socket's
        return (address, None) if name == "sockname" else None
    return (address[0], address[1]) if address else None


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """Path and query of a request's target (RFC 9112, 3.2), which may be a whole address."""
    if target[:1] == b"/" and b"#" not in target:
        path, _, query = target.partition(b"?")
        return path, query
    parsed = httptools.parse_url(target)
    return parsed.path or b"/", parsed.query or b""


def is_handshake(method: bytes, target: bytes, headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a request with ``Connection: Upgrade`` opens a WebSocket: all that RFC 6455, 4.2.1 asks for is there."""
    fields: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        fields.setdefault(name, []).append(value.strip())
    keys = fields.get(b"sec-websocket-key", [])
    try:
        has_key = len(keys) == 1 and len(base64.b64decode(keys[0], validate=True)) == 16
    except binascii.Error:
        has_key = False
    return (
        has_key
        and method == b"GET"
        and target.startswith(b"/")
        and target.isascii()
        and len(fields.get(b"host", ())) == 1
        and [value.lower() for value in fields[b"upgrade"]] == [b"websocket"]
        and fields.get(b"sec-websocket-version") == [b"13"]
        and fields.get(b"content-length", [b"0"]) == [b"0"]
        and b"transfer-encoding" not in fields
    )


async def refuse_hosts(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request that has no Host header, or several (RFC 9112, 3.2); each must name the same server."""
    body = b"A request must have exactly one Host header."
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": body})
