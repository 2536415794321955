"""uvicorn's HTTP protocol with bounds on what a client may send before its request is understood, and less to do.

httptools joins the pieces of a header as they come, so the cost of an endless one grows with its square and holds up
every other request of the process; and nothing ends a connection that never finishes its head. Requests and answers
are `HttpCycle`'s; one timer serves a connection for life, where uvicorn makes one after each request.
"""

from __future__ import annotations

import asyncio
import urllib.parse
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from portal.http_cycle import HttpCycle

#: Bytes of a request's line and headers, or of trailers. Cookies and keys need a few hundred; nginx allows 32 KiB.
HEAD_LIMIT = 64 * 2**10
#: Seconds that a head may take from the connection or its first byte on; at most twice that, as the timer ticks so.
HEAD_TIMEOUT_S = 30.0
#: While a request is in work.
NEVER = float("inf")

TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: 43\r\nconnection: close\r\n\r\nThe request's headers are larger than 64 K."
)


class BoundedHttpProtocol(HttpToolsProtocol):
    """Refuses heads larger than HEAD_LIMIT (RFC 6585, 5: status 431) and closes connections that send none in time.

    Of uvicorn's configuration, ``root_path``, ``limit_concurrency`` and access logs have no effect here.
    """

    _unread = 0
    _is_upgrade = False
    _deadline = NEVER
    _timer: asyncio.TimerHandle | None = None
    scope: Any
    parser: Any
    _latest: HttpCycle | None = None
    _active: HttpCycle | None = None

    # The connection

    def connection_made(self, transport: Any) -> None:
        """Expect a head."""
        super().connection_made(transport)
        self._queue: list[HttpCycle] = []
        self._deadline = self.loop.time() + HEAD_TIMEOUT_S
        self._tick()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the application."""
        self._stop_timer()
        self.connections.discard(self)
        if self._active is not None:
            self._active.disconnect()
        self.flow.resume_writing()
        if exc is None:
            self.transport.close()
        self.parser = None

    def shutdown(self) -> None:
        """Begin to stop with the server: streams that never end by themselves are ended, other answers finish."""
        end_streams = getattr(self.config.loaded_app, "end_streams", None)
        if end_streams is not None:
            end_streams()
        if self._latest is None or self._latest.response_complete:
            self.transport.close()
        else:
            self._latest.keep_alive = False

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over."""
        self._stop_timer()
        super().handle_websocket_upgrade()

    def data_received(self, data: bytes) -> None:
        """Parse what came, and count what made no head and no body of it."""
        self._unread += len(data)
        super().data_received(data)
        if self._unread > HEAD_LIMIT and not self.transport.is_closing():
            self.transport.write(TOO_LARGE)
            self.transport.close()

    # The parser

    def on_message_begin(self) -> None:
        """A head has begun."""
        self._deadline = self.loop.time() + HEAD_TIMEOUT_S
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        """Start the application, or queue the request behind the one that is in work."""
        self._unread, self._deadline = 0, NEVER
        parser = self.parser
        version = parser.get_http_version()
        raw_path, query = split_target(self.url)
        path = raw_path.decode("ascii")
        self.scope = scope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
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
        }
        self._is_upgrade = parser.should_upgrade() and self._should_upgrade()
        if self._is_upgrade:
            return
        cycle = HttpCycle(
            self,
            scope,
            keep_alive=version != "1.0" and parser.should_keep_alive(),
            expects_continue=self.expect_100_continue,
        )
        before, self._latest = self._latest, cycle
        if before is None or before.response_complete:
            self._start(cycle)
        else:
            self.flow.pause_reading()
            self._queue.append(cycle)

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body; nobody wants it any more when the answer is complete."""
        self._unread = 0
        cycle = self._latest
        if cycle is None or self._is_upgrade:
            return
        if cycle.response_complete:
            self._deadline = self.loop.time() + self.timeout_keep_alive
        else:
            cycle.take_body(body)

    def on_message_complete(self) -> None:
        """Note the end of a request."""
        self._unread = 0
        cycle = self._latest
        if cycle is not None and not self._is_upgrade and not cycle.response_complete:
            cycle.end_body()

    # The cycle

    def on_response_complete(self) -> None:
        """Go on with the next request, or wait for one."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self._queue:
            self._start(self._queue.pop(0))
        elif self._deadline == NEVER:  # no head has begun
            self._deadline = self.loop.time() + self.timeout_keep_alive

    def _start(self, cycle: HttpCycle) -> None:
        self._active = cycle
        self.tasks.add(self.loop.create_task(cycle.run(self.app)))

    # The timer

    def _tick(self) -> None:
        left_s = self._deadline - self.loop.time()
        if left_s > 0 or (self._active is not None and not self._active.response_complete):
            delay_s = left_s if 0 < left_s < HEAD_TIMEOUT_S else HEAD_TIMEOUT_S
            self._timer = self.loop.call_later(delay_s, self._tick)
        else:
            self._timer = None
            self.transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """Path and query of a request's target (RFC 9112, 3.2), which may be a whole address."""
    if target[:1] == b"/" and b"#" not in target:
        path, _, query = target.partition(b"?")
        return path, query
    parsed = httptools.parse_url(target)
    return parsed.path or b"/", parsed.query or b""
