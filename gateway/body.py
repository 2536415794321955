"""Reading request bodies: whole where the model must be found in them, piece by piece where it needn't."""

from __future__ import annotations

import msgspec

from gateway.asgi import find_header
from gateway.errors import ClientGone, GatewayError
from gateway.exchange import Exchange

_WITH_BODY = frozenset(("POST", "PUT", "PATCH"))


class RequestBody(msgspec.Struct, frozen=True):
    """The body of a request to an instance, or its first piece."""

    data: bytes
    is_whole: bool
    framing: bytes
    """The header line that says where it ends; empty when there's no body."""
    is_chunked: bool = False


def hold_body(data: bytes) -> RequestBody:
    """A body that is complete."""
    return RequestBody(data=data, is_whole=True, framing=b"content-length: %d\r\n" % len(data))


async def read_body(exchange: Exchange, limit_bytes: int) -> bytes:
    """The complete body. Raises `GatewayError` 413 beyond the limit, and `ClientGone`."""
    announced = find_header(exchange.headers, b"content-length")
    if announced is not None and announced.isdigit() and int(announced) > limit_bytes:
        raise _too_large(limit_bytes)
    message = await exchange.receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    data: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return data
    pieces = [data]
    size = len(data)
    while message.get("more_body", False):
        message = await exchange.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece = message.get("body", b"")
        pieces.append(piece)
        size += len(piece)
        if size > limit_bytes:
            raise _too_large(limit_bytes)
    return b"".join(pieces)


async def begin_body(exchange: Exchange) -> RequestBody:
    """The body if it is short enough to have come at once, else its first piece. Raises `ClientGone`."""
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
    framing = b"content-length: %s\r\n" % length if length is not None else b"transfer-encoding: chunked\r\n"
    return RequestBody(data=data, is_whole=False, framing=framing, is_chunked=is_chunked)


def _too_large(limit_bytes: int) -> GatewayError:
    message = f"The request body is larger than {limit_bytes} bytes"
    return GatewayError(413, "request_too_large", message)
