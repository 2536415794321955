"""Reading request bodies: whole where the model must be found in them, piece by piece where it needn't."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import msgspec

from gateway.asgi import Headers, find_header
from gateway.body_stream import BodyStream, too_large
from gateway.errors import ClientGone, GatewayError
from gateway.exchange import Exchange

_WITH_BODY = frozenset(("POST", "PUT", "PATCH"))
_MEMORY_RETRY_S = 5


class RequestBody(msgspec.Struct):
    """The body of a request to an instance, or its first piece."""

    data: bytes
    is_whole: bool
    framing: bytes
    """The header line that says where it ends; empty when there's no body."""
    is_chunked: bool = False
    stream: BodyStream | None = None
    """Where the rest comes from, unless the body is whole. Its `keep_reading` watches the client during a wait."""

    async def read_more(self) -> bytes | None:
        """The next piece after `data`, None at the end. Raises `ClientGone` and `GatewayError`."""
        return None if self.stream is None else await self.stream.read_more()


def hold_body(data: bytes) -> RequestBody:
    """A body that is complete."""
    return RequestBody(data=data, is_whole=True, framing=b"content-length: %d\r\n" % len(data))


class MemoryBudget:
    """How many bytes of large bodies one process may hold at once."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0

    def take(self, size: int) -> None:
        """Count `size` bytes. Raises `GatewayError` 503 when they would be too many."""
        if self.held_bytes + size > self.limit_bytes:
            message = f"Large requests in work hold {self.held_bytes} of {self.limit_bytes} bytes already; try again"
            raise GatewayError(503, "body_memory_full", message, retry_after_s=_MEMORY_RETRY_S)
        self.held_bytes += size

    def give_back(self, size: int) -> None:
        """Count `size` bytes no more."""
        self.held_bytes -= size


def check_length(headers: Headers, limit_bytes: int) -> None:
    """Raise `GatewayError` 413 when the announced length of a body is beyond the limit."""
    length = find_header(headers, b"content-length")
    if length is not None and length.isdigit() and int(length) > limit_bytes:
        raise too_large(limit_bytes)


async def read_body(exchange: Exchange, limit_bytes: int, budget: MemoryBudget | None = None) -> bytes:
    """The complete body.

    One that comes in several pieces counts against the budget until `exchange.release_body`. Raises `GatewayError` 413
    beyond the limit (before anything is read, where the length is announced), 503 beyond the budget, and `ClientGone`.
    """
    check_length(exchange.headers, limit_bytes)
    message = await exchange.receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    data: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return data
    return await _read_rest(exchange, data, limit_bytes, budget or MemoryBudget(limit_bytes))


async def _read_rest(exchange: Exchange, data: bytes, limit_bytes: int, budget: MemoryBudget) -> bytes:
    pieces = [data]
    size = len(data)
    budget.take(size)
    exchange.release = lambda: budget.give_back(size)
    more_body = True
    while more_body:
        message = await exchange.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece = message.get("body", b"")
        if size + len(piece) > limit_bytes:
            raise too_large(limit_bytes)
        budget.take(len(piece))
        size += len(piece)
        pieces.append(piece)
        more_body = message.get("more_body", False)
    return b"".join(pieces)


async def begin_body(exchange: Exchange, *, limit_bytes: int | None = None) -> RequestBody:
    """The body if it is short enough to have come at once, else its first piece.

    Raises `ClientGone`, and `GatewayError` 413 for an announced length beyond the limit, as reading more does later.
    """
    if limit_bytes is not None:
        check_length(exchange.headers, limit_bytes)
    length = find_header(exchange.headers, b"content-length")
    is_chunked = length is None and find_header(exchange.headers, b"transfer-encoding") is not None
    if length is None and not is_chunked:
        has_body = exchange.method in _WITH_BODY
        return hold_body(b"") if has_body else RequestBody(data=b"", is_whole=True, framing=b"")
    message = await exchange.receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    data: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return hold_body(data)
    return stream_body(exchange, BodyStream(exchange, limit_bytes=limit_bytes), data=data)


def stream_body(exchange: Exchange, stream: BodyStream, *, data: bytes = b"", growth: int = 0) -> RequestBody:
    """A body that goes on as it comes, `growth` bytes longer than the client announced."""
    length = find_header(exchange.headers, b"content-length")
    is_chunked = length is None
    framing = (
        b"transfer-encoding: chunked\r\n" if length is None else b"content-length: %d\r\n" % (int(length) + growth)
    )
    return RequestBody(data=data, is_whole=False, framing=framing, is_chunked=is_chunked, stream=stream)


def refuse_fields(body: bytes, names: Iterable[str]) -> None:
    """Raise `GatewayError` 400 when the JSON object in `body` has a top-level member of these names that isn't null.

    Meant for members by which a request would make an engine load something else than its model. `body` must have
    passed `find_model`.
    """
    wanted = tuple(names)
    # A name may be written with escapes (RFC 8259 section 7); whoever writes ASCII letters so is looked at closely.
    if b"\\u00" not in body and not any(name.encode() in body for name in wanted):
        return
    found = _decoder_of(wanted).decode(body)
    for name in wanted:
        if getattr(found, name) is not None:
            message = f"The field {name} is not accepted; an instance serves the model that it was started with"
            raise GatewayError(400, "invalid_request", message, param=name)


@lru_cache(maxsize=16)
def _decoder_of(names: tuple[str, ...]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(msgspec.defstruct("Refused", [(name, Any, None) for name in names]))
