"""One HTTP/1.1 connection to an instance (RFC 9112), as a protocol that the forwarding coroutine reads from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import httptools

from gateway.asgi import Headers
from gateway.known_head import KnownHead, learn_head
from gateway.tcp import has_input, may_have_read, read_leftover

if TYPE_CHECKING:
    from gateway.facts import AnswerFacts

READ_HIGH_WATER = 128 * 1024
"""Bytes of an answer that may wait for the client before the instance is made to wait too."""
MAX_HEAD_BYTES = 256 * 1024
"""Bytes that an engine may send between two pieces of a body: interim answers, a head, sizes of chunks, trailers."""
_BODYLESS = (204, 304)
_FRESH_S = 0.25
"""For so long a connection is used again without asking the system whether it still stands. No engine closes one so
soon without saying so in its answer, and a request that met a close is sent again (`is_unseen`)."""
_CLOSING_S = 0.05
"""For so long a connection that an instance closes instead of answering is looked at."""


class UpstreamConnection(asyncio.Protocol):
    """Carries one exchange at a time.

    `start` sends a request; `changed` waits for news; then `head_complete`, `status` and `headers` describe the answer,
    `take` hands out its body, `is_complete` says that it ended properly (`trailers` may have come with its end), and
    `is_lost` that the connection ended.
    """

    __slots__ = (
        "_active_at",
        "_buffered",
        "_chunks",
        "_completed_at",
        "_drained",
        "_has_length",
        "_head_bytes",
        "_idle_timeout_s",
        "_is_between_chunks",
        "_is_interim",
        "_is_reading_paused",
        "_known",
        "_known_status",
        "_loop",
        "_news",
        "_parser",
        "_received_any",
        "_sent_before",
        "_sent_bytes",
        "_take_chunks",
        "_timer",
        "_transport",
        "announces_trailers",
        "error",
        "head_complete",
        "headers",
        "idle_since",
        "is_complete",
        "is_head_request",
        "is_idle",
        "is_lost",
        "is_timed_out",
        "is_unseen",
        "keeps_alive",
        "kept_s",
        "known",
        "listener",
        "status",
        "trailers",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._news: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._idle_timeout_s = 0.0
        self._active_at = 0.0
        self._completed_at = 0.0
        self._is_reading_paused = False
        self._known: KnownHead[AnswerFacts] | None = None
        self._known_status = 0
        self._sent_bytes = 0
        self.listener: Callable[[], None] | None = None
        """Called with each piece of news, in place of what `changed` hands out. It must not raise."""
        self.idle_since = 0.0
        self.kept_s: float | None = None
        """For so long after its answer the instance kept the idle connection; None as long as it does."""
        self.is_idle = True
        self.is_lost = False
        self.is_timed_out = False
        self.is_unseen = False
        """Whether the connection was lost before the instance can have read a single byte of the request."""
        self._reset(is_head_request=False)

    def _reset(self, *, is_head_request: bool) -> None:
        self.is_head_request = is_head_request
        self.known: KnownHead[AnswerFacts] | None = None
        """The head by which the answer was known; it is then complete."""
        self.status = 0
        self.headers: Headers = []
        self.announces_trailers = False
        self.trailers: Headers | None = None
        self.head_complete = False
        self.is_complete = False
        self.keeps_alive = False
        self.error = ""
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._has_length = False
        self._head_bytes = 0
        self._is_between_chunks = False
        self._is_interim = False
        self._received_any = False
        self._take_chunks: Callable[[bytes], bool] | None = None
        self._sent_before = self._sent_bytes

    # What the forwarding coroutine calls

    def is_usable(self, now_s: float) -> bool:
        """Whether an idle connection still stands at this monotonic time: an engine may have closed it a moment ago."""
        if self.is_lost or self._transport is None:
            return False
        return now_s - self.idle_since < _FRESH_S or not has_input(self._transport)

    def start(self, head: bytes, body: bytes, *, is_head_request: bool) -> None:
        """Send a request: its head and as much of its body as is there."""
        error = self.error
        self._reset(is_head_request=is_head_request)
        if self.is_lost:  # before it was used
            self.error = error
        self.is_idle = False
        if not body:
            self.write(head)
        elif len(body) < 65536:
            self.write(head + body)
        else:
            self.write(head)
            self.write(body)

    def write(self, data: bytes) -> None:
        """Send more; `drained` tells when there's room again. Without effect once the connection is lost."""
        if self._transport is not None and not self.is_lost:
            self._sent_bytes += len(data)
            self._transport.write(data)

    def drained(self) -> asyncio.Future[None] | None:
        """What ends when the instance has taken enough or the connection is lost; None when it has. Don't cancel it."""
        return None if self.is_lost else self._drained

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
            if self._idle_timeout_s:
                self._active_at = self._loop.time()
            self._transport.resume_reading()
        return data

    def offer_chunks(self, take: Callable[[bytes], bool]) -> None:
        """Offer what comes to `take` unparsed, until it returns False for something that isn't whole chunks.

        Without effect unless the answer comes in chunks and all that came of it ends with one.
        """
        if self._is_between_chunks and not self.is_lost:
            self._take_chunks = take

    def expect_head(self, timeout_s: float) -> None:
        """Give up, as `is_timed_out` tells, unless the head of the answer is here in time."""
        if not self.head_complete and not self.is_lost:
            self._timer = self._loop.call_later(timeout_s, self._expire, timeout_s)

    def expect_body(self, timeout_s: float) -> None:
        """The head is here: give up from now on when the instance pauses for so long; 0 lets it pause for ever."""
        self._cancel_timer()
        if timeout_s and not self.is_complete and not self.is_lost:
            self._idle_timeout_s = timeout_s
            self._active_at = self._loop.time()
            self._timer = self._loop.call_later(timeout_s, self._check_pause)

    def release(self, now_s: float) -> bool:
        """End the exchange at this monotonic time. Returns whether the connection may carry another one."""
        if self._timer is not None:
            self._cancel_timer()
        self.is_idle = True
        self.idle_since = now_s
        is_usable = self.is_complete and self.keeps_alive and not self.is_lost and not self._chunks
        return is_usable and self._drained is None

    def abort(self) -> None:
        """Close at once and wake whoever waits."""
        self._cancel_timer()
        self._take_chunks = None
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
        if self._take_chunks is not None:
            if self._take_chunks(data):
                if self._idle_timeout_s:
                    self._active_at = self._loop.time()
                return
            self._take_chunks = None
        if self.is_idle:
            self.abort()
            return
        if not self._received_any and self._known is not None and self._take_known(self._known, data):
            self._wake()
            return
        is_first, self._received_any = not self._received_any, True
        if self._idle_timeout_s:
            self._active_at = self._loop.time()
        self._head_bytes += len(data)  # set back by a piece of the body
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.keeps_alive = False
            if not self.is_complete:
                self.error = f"it sent an invalid HTTP answer ({error})"
                self.abort()
        if self._is_between_chunks and not data.endswith(b"\r\n"):
            self._is_between_chunks = False  # the size of the next one has begun
        if self._head_bytes > MAX_HEAD_BYTES and not self.is_complete and not self.is_lost:
            # The parser keeps what it reads of a head, however long it is.
            what = "the trailers" if self.head_complete else "the head"
            self.error = f"{what} of its answer took more than {MAX_HEAD_BYTES // 1024} KiB"
            self.abort()
        if is_first and self.is_complete and self.keeps_alive and not self.is_lost:
            is_interim = data[9:12] != b"%d" % self.status
            self._known, self._known_status = None if is_interim else learn_head(data, self.headers), self.status
        self._wake()

    def _take_known(self, known: KnownHead[AnswerFacts], data: bytes) -> bool:
        """Take an answer with the known head whose body is here. False leaves all of it to the parser."""
        measured = known.measure(data)
        if measured is None or self.is_head_request or len(data) - measured[0] != int(measured[1]):
            return False
        self._received_any = self._has_length = self.head_complete = self.is_complete = self.keeps_alive = True
        self.known, self.status, self.headers = known, self._known_status, known.make_headers(measured[1])
        self._chunks.append(data[measured[0] :])
        self._completed_at = self._loop.time()
        return True

    def eof_received(self) -> bool:
        """The instance closes. Whether it has read the request that crossed the close may only be known a moment later.

        Programs close in two steps, and only the second one resets a connection on which something is left unread.
        """
        was_reused = self._sent_before > 0
        if self.is_idle or self._received_any or not was_reused or self._transport is None:
            return False
        self._loop.call_later(_CLOSING_S, self._transport.abort)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection ended; that is the proper end of an answer of unknown length (RFC 9112 section 6.3)."""
        was_expected = self.is_lost or self.is_idle
        if self.is_idle and not self.is_lost:
            self.kept_s = self._loop.time() - self._completed_at
        self.is_lost = True  # whoever takes what has come shall not give it back as one to be used
        if exc is not None and not was_expected and not self.is_complete and self._transport is not None:
            # An engine that refuses an upload answers and closes. The reset that follows its answer may be noticed by
            # writing before the answer is noticed by reading.
            leftover = read_leftover(self._transport)
            if leftover:
                self.data_received(leftover)
        self._cancel_timer()
        if not was_expected and not self._received_any and self._transport is not None:
            sent = self._sent_bytes - self._sent_before
            self.is_unseen = not may_have_read(self._transport, self._sent_before, sent, exc)
        if self.head_complete and not self.is_complete and not self._has_length and exc is None and not self.error:
            self.is_complete = True
        elif not self.is_complete and not self.error:
            self.error = f"it broke the connection ({exc})" if exc is not None else "it closed the connection"
        self.resume_writing()
        self._known = None
        del self._parser  # they hold each other
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
        """A header of the answer, or a trailer (RFC 9110 section 6.5) after its body."""
        name = name.lower()
        if self.head_complete:
            if self.trailers is None:
                self.trailers = []
            self.trailers.append((name, value))
            return
        if name == b"content-length" or (name == b"transfer-encoding" and value.lower().endswith(b"chunked")):
            self._has_length = True
        elif name == b"trailer":
            self.announces_trailers = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is complete, unless it was an interim one (RFC 9110 section 15.2)."""
        status = self._parser.get_status_code()
        self._is_between_chunks = False
        if status < 200:
            if status == 101:
                raise ValueError("an upgrade that was not asked for")
            self._is_interim = True
            self.headers = []
            self._has_length = self.announces_trailers = False
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
        self._head_bytes = 0
        self._buffered += len(data)
        if self._buffered > READ_HIGH_WATER and not self._is_reading_paused and self._transport is not None:
            self._is_reading_paused = True
            self._transport.pause_reading()

    def on_chunk_header(self) -> None:
        """The size of a chunk, or of the last one, which is none."""
        self._is_between_chunks = False

    def on_chunk_complete(self) -> None:
        """The end of a chunk."""
        self._is_between_chunks = True

    def on_message_complete(self) -> None:
        """The answer has ended properly."""
        if self._is_interim:
            self._is_interim = False
        else:
            self.is_complete = True
            self._completed_at = self._loop.time()

    def _wake(self) -> None:
        if self.listener is not None:
            self.listener()
            return
        news, self._news = self._news, None
        if news is not None and not news.done():
            news.set_result(None)

    # Time-outs

    def _check_pause(self) -> None:
        # One timer per answer instead of one per piece: it looks how long ago the last piece came.
        now = self._loop.time()
        if self._chunks or self._is_reading_paused:
            self._active_at = now  # it's the client who pauses
        left = self._active_at + self._idle_timeout_s - now
        if left <= 0:
            self._expire(self._idle_timeout_s)
        else:
            self._timer = self._loop.call_later(left, self._check_pause)

    def _expire(self, timeout_s: float) -> None:
        self.is_timed_out = True
        what = "nothing more came" if self.head_complete else "no answer came"
        self.error = f"{what} within {timeout_s:g} seconds"
        self.abort()

    def _cancel_timer(self) -> None:
        self._idle_timeout_s = 0.0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
