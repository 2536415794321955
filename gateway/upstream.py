"""One HTTP/1.1 connection to an instance (RFC 9112), as a protocol that the forwarding coroutine reads from."""

from __future__ import annotations

import asyncio
from typing import cast

import httptools

from gateway.asgi import Headers

READ_HIGH_WATER = 128 * 1024
"""Bytes of an answer that may wait for the client before the instance is made to wait too."""
_BODYLESS = (204, 304)


class UpstreamConnection(asyncio.Protocol):
    """Carries one exchange at a time.

    `start` sends a request; `changed` waits for news; then `head_complete`, `status` and `headers` describe the answer,
    `take` hands out its body, `is_complete` says that it ended properly, and `is_lost` that the connection ended.
    """

    __slots__ = (
        "_buffered",
        "_chunks",
        "_drained",
        "_has_length",
        "_is_interim",
        "_is_reading_paused",
        "_loop",
        "_news",
        "_on_idle_lost",
        "_parser",
        "_received_any",
        "_transport",
        "error",
        "head_complete",
        "headers",
        "idle_since",
        "is_complete",
        "is_head_request",
        "is_idle",
        "is_lost",
        "keeps_alive",
        "status",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._news: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._is_reading_paused = False
        self.idle_since = 0.0
        self.is_idle = True
        self.is_lost = False
        self._reset(is_head_request=False)

    def _reset(self, *, is_head_request: bool) -> None:
        self.is_head_request = is_head_request
        self.status = 0
        self.headers: Headers = []
        self.head_complete = False
        self.is_complete = False
        self.keeps_alive = False
        self.error = ""
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._has_length = False
        self._is_interim = False
        self._received_any = False

    # What the forwarding coroutine calls

    @property
    def received_any(self) -> bool:
        """Whether any byte of an answer to the current request has come."""
        return self._received_any

    def start(self, head: bytes, body: bytes, *, is_head_request: bool) -> None:
        """Send a request: its head and as much of its body as is there."""
        self._reset(is_head_request=is_head_request)
        self.is_idle = False
        if not body:
            self.write(head)
        elif len(body) < 65536:
            self.write(head + body)
        else:
            self.write(head)
            self.write(body)

    def write(self, data: bytes) -> None:
        """Send more; `drain` tells when there's room again. Without effect once the connection is lost."""
        if self._transport is not None and not self.is_lost:
            self._transport.write(data)

    async def drain(self) -> None:
        """Return when the instance has taken enough of what was written, or the connection is lost."""
        if self._drained is not None and not self.is_lost:
            await self._drained

    def changed(self) -> asyncio.Future[None]:
        """A future that ends with the next news: head, body, end or loss."""
        self._news = self._loop.create_future()
        return self._news

    def take(self) -> bytes:
        """The part of the body that has come since the last call; empty when none has."""
        chunks = self._chunks
        if not chunks:
            return b""
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._chunks = []
        self._buffered = 0
        if self._is_reading_paused and self._transport is not None and not self.is_lost:
            self._is_reading_paused = False
            self._transport.resume_reading()
        return data

    def release(self) -> bool:
        """End the exchange. Returns whether the connection may carry another one."""
        self.is_idle = True
        self.idle_since = self._loop.time()
        is_usable = self.is_complete and self.keeps_alive and not self.is_lost and not self._chunks
        return is_usable and self._drained is None

    def abort(self) -> None:
        """Close at once and wake whoever waits."""
        if self._transport is not None:
            self._transport.abort()
        if not self.error and not self.is_lost and not self.is_complete:
            self.error = "the connection was closed"
        self.is_lost = True
        self._wake()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's isn't derived from asyncio's

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer; on an idle connection they're nobody's, so it is closed."""
        if self.is_idle:
            self.abort()
            return
        self._received_any = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.keeps_alive = False
            if not self.is_complete:
                self.error = f"it sent an invalid HTTP answer ({error})"
                self.abort()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection ended; that is the proper end of an answer of unknown length (RFC 9112 section 6.3)."""
        self.is_lost = True
        if self.head_complete and not self.is_complete and not self._has_length and exc is None and not self.error:
            self.is_complete = True
        elif not self.is_complete and not self.error:
            self.error = f"it broke the connection ({exc})" if exc is not None else "it closed the connection"
        self.resume_writing()
        self._wake()

    def pause_writing(self) -> None:
        """The instance reads slower than the client sends."""
        if self._drained is None:
            self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        """The instance has caught up."""
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    # httptools.HttpResponseParser

    def on_message_begin(self) -> None:
        """A second answer to one request must not be taken for the answer to the next."""
        if self.is_complete:
            raise ValueError("more than one answer to a request")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header of the answer; trailers come too late to be passed on."""
        if self.head_complete:
            return
        name = name.lower()
        if name == b"content-length" or (name == b"transfer-encoding" and value.lower().endswith(b"chunked")):
            self._has_length = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is complete, unless it was an interim one (RFC 9110 section 15.2)."""
        status = self._parser.get_status_code()
        if status < 200:
            if status == 101:
                raise ValueError("an upgrade that was not asked for")
            self._is_interim = True
            self.headers = []
            self._has_length = False
            return
        self.status = status
        self.head_complete = True
        if self.is_head_request or status in _BODYLESS:
            # The parser can't know that a body announced in this head won't come, so it serves no further exchange.
            self.is_complete = True
        else:
            self.keeps_alive = self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        if self.is_complete:
            raise ValueError("a body where none may be")
        self._chunks.append(data)
        self._buffered += len(data)
        if self._buffered > READ_HIGH_WATER and not self._is_reading_paused and self._transport is not None:
            self._is_reading_paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """The answer has ended properly."""
        if self._is_interim:
            self._is_interim = False
        else:
            self.is_complete = True

    def _wake(self) -> None:
        news, self._news = self._news, None
        if news is not None and not news.done():
            news.set_result(None)
