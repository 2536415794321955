"""Which headers cross the gateway, and in what form."""

from __future__ import annotations

from functools import lru_cache

from gateway.accounting.encodings import NAMES as READABLE_CODINGS
from gateway.asgi import Headers
from gateway.errors import GatewayError
from gateway.keys import drop_query_key
from gateway.structs import Route

_HOP_BY_HOP = frozenset(
    # RFC 9110 section 7.6.1
    b"connection keep-alive proxy-connection te trailer transfer-encoding upgrade proxy-authenticate".split()
)
_DROPPED_FROM_REQUEST = _HOP_BY_HOP | frozenset(
    # The client's credentials are for Corral, not for the engine, under whichever name a library sends them (browsers
    # put keys among subprotocols, which mean nothing without a WebSocket); length and address are written anew; the web
    # server has answered `Expect` before the body was read.
    b"authorization proxy-authorization x-api-key xi-api-key api-key x-goog-api-key cookie cookie2 x-csrftoken "
    b"sec-websocket-protocol host content-length expect x-forwarded-for".split()
)
_DROPPED_FROM_ANSWER = _HOP_BY_HOP | frozenset(
    # An engine sets no cookies for the portal's address, Corral decides which origins may call it, and the activity
    # knows a request by Corral's own id.
    b"x-request-id request-id set-cookie access-control-allow-origin access-control-allow-methods "
    b"access-control-allow-headers access-control-allow-credentials access-control-expose-headers "
    b"access-control-max-age".split()
)
_DROPPED_FROM_HANDSHAKE = _DROPPED_FROM_REQUEST | frozenset(
    # The gateway shakes hands with the engine by itself, and it isn't a page of some origin.
    b"origin sec-websocket-key sec-websocket-version sec-websocket-extensions".split()
)
_FRAMING = frozenset((b"content-length", b"content-type"))
"""Headers of an answer that a `Connection` header can't take away."""
_ACCEPTED_CODINGS = READABLE_CODINGS | {b"identity"}
_NOTHING: frozenset[bytes] = frozenset()
_PLAIN_CONNECTION = (b"keep-alive", b"close", b"Keep-Alive", b"Close")
NO_BUFFERING = (b"x-accel-buffering", b"no")
"""Tells nginx to pass a stream on as it comes (ngx_http_proxy_module)."""


def build_request_head(method: str, target: bytes, route: Route, headers: Headers, *, client_host: str | None) -> bytes:
    """The head of the request for the instance without its end: the line on the body's length, and the empty line.

    Raises `GatewayError` 400 when a header carries a line break, as no header from an HTTP parser can.
    """
    fixed, line_count = _write_fixed_lines(route.host, route.port, route.upstream_key)
    pieces = [method.encode(), b" ", target, fixed]
    nominated = _find_nominated(headers)
    forwarded_for = b""
    for name, value in headers:
        if name in _DROPPED_FROM_REQUEST:
            if name == b"x-forwarded-for":
                forwarded_for += value + b", "
        elif name not in nominated:
            pieces += (name, b": ", _REWRITTEN[name](value) if name in _REWRITTEN else value, b"\r\n")
            line_count += 1
    if client_host is not None:
        pieces += (b"x-forwarded-for: ", forwarded_for, client_host.encode(), b"\r\n")
        line_count += 1
    head = b"".join(pieces)
    if head.count(b"\n") != line_count or head.count(b"\r") != line_count:
        raise GatewayError(400, "invalid_request", "A header or the path contains a line break")
    return head


def keep_readable(accepted: bytes) -> bytes:
    """An `Accept-Encoding` (RFC 9110 section 12.5.3) without the codings in which the gateway can't count tokens."""
    kept = [coding for coding in accepted.split(b",") if coding.partition(b";")[0].strip().lower() in _ACCEPTED_CODINGS]
    return b",".join(kept).strip() or b"identity"


def hide_key(referer: bytes) -> bytes:
    """A `Referer` without the key in its query: an engine's own page may have been opened with one."""
    address, mark, query = referer.partition(b"?")
    return address + mark + drop_query_key(query)


_REWRITTEN = {b"accept-encoding": keep_readable, b"referer": hide_key}


def build_handshake_headers(route: Route, headers: Headers, *, client_host: str | None) -> list[tuple[str, str]]:
    """What a WebSocket's opening handshake with the instance carries besides the protocol's own headers."""
    kept: list[tuple[str, str]] = []
    nominated = _find_nominated(headers)
    forwarded_for = ""
    for name, value in headers:
        if name == b"x-forwarded-for":
            forwarded_for += value.decode("latin-1") + ", "
        elif name not in _DROPPED_FROM_HANDSHAKE and name not in nominated:
            sent = _REWRITTEN[name](value) if name in _REWRITTEN else value
            kept.append((name.decode("latin-1"), sent.decode("latin-1")))
    if route.upstream_key is not None:
        kept.append(("authorization", f"Bearer {route.upstream_key}"))
    if client_host is not None:
        kept.append(("x-forwarded-for", forwarded_for + client_host))
    return kept


@lru_cache(maxsize=4096)
def _write_fixed_lines(host: str, port: int, upstream_key: str | None) -> tuple[bytes, int]:
    """What stands behind the target in every request to this address, and how many lines that ends."""
    host = f"[{host}]" if ":" in host else host
    lines = [" HTTP/1.1", f"host: {host}:{port}"]
    if upstream_key is not None:
        lines.append(f"authorization: Bearer {upstream_key}")
    return "".join(f"{line}\r\n" for line in lines).encode(), len(lines)


def filter_answer_headers(headers: Headers, *, drop_length: bool) -> Headers:
    """The headers of an instance's answer that go on to the client, for a streamed answer with `NO_BUFFERING`.

    Names must be in lower case. `drop_length` also drops the length, for answers that can't have a body.
    """
    nominated = _find_nominated(headers)
    kept: Headers = []
    is_event_stream = False
    for header in headers:
        name, value = header
        if name in _DROPPED_FROM_ANSWER or name in nominated:
            continue
        if name == b"content-type":
            is_event_stream = value.startswith(b"text/event-stream")
        elif name == b"content-length" and drop_length:
            continue
        kept.append(header)
    if is_event_stream and NO_BUFFERING not in kept:
        kept.append(NO_BUFFERING)
    return kept


def write_lines(headers: Headers) -> bytes:
    """The headers as they are sent."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def filter_trailers(trailers: Headers) -> Headers:
    """The trailers of an answer that go on to the client (RFC 9110 section 6.5.1: none that frame or route)."""
    return [header for header in trailers if header[0] not in _DROPPED_FROM_ANSWER and header[0] not in _FRAMING]


def _find_nominated(headers: Headers) -> frozenset[bytes]:
    """Names that a `Connection` header declares to be for this hop only (RFC 9110 section 7.6.1)."""
    for name, value in headers:
        if name == b"connection" and value not in _PLAIN_CONNECTION:
            tokens = b",".join(value for name, value in headers if name == b"connection").split(b",")
            return frozenset(token.strip().lower() for token in tokens) - _FRAMING
    return _NOTHING
