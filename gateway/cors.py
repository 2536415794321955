"""Which web pages of other origins may call the gateway (Fetch standard, "CORS protocol")."""

from __future__ import annotations

from gateway.asgi import Headers, find_header
from gateway.exchange import Exchange

_MAX_AGE_S = 300
_ALL = (b"access-control-allow-origin", b"*")
_ALLOW = (b"allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
_WANTED_METHOD = b"access-control-request-method"
_VARY = (b"vary", b"Origin")
_EXPOSED = (b"access-control-expose-headers", b"x-request-id, request-id, retry-after, x-should-retry")
"""What clients' libraries read of an answer's headers, beside those that pages may always read."""


class CorsPolicy:
    """Answers for a fixed set of origins; `*` in it stands for all. Credentials (cookies) are never allowed."""

    def __init__(self, allowed_origins: tuple[str, ...]) -> None:
        self._allows_all = "*" in allowed_origins
        self._allowed = frozenset(origin.encode() for origin in allowed_origins)

    def answer_headers(self, headers: Headers) -> Headers:
        """What every answer to a request with these headers carries; nothing concerns clients that aren't pages."""
        origin = find_header(headers, b"origin")
        if self._allows_all:
            return [] if origin is None else [_ALL, _EXPOSED]
        if origin is None or origin not in self._allowed:
            return [_VARY]
        return [(b"access-control-allow-origin", origin), _EXPOSED, _VARY]

    async def answer_options(self, exchange: Exchange) -> None:
        """Answer a preflight with 200 and what it asked for, any other request OPTIONS with 204 (llama-swap, 4.6)."""
        wanted_method = find_header(exchange.headers, _WANTED_METHOD)
        if wanted_method is None:
            await _answer(exchange, 204, [_ALLOW, *exchange.extra_headers])
            return
        headers: Headers = [(b"content-length", b"0"), *exchange.extra_headers]
        if any(name == b"access-control-allow-origin" for name, _ in headers):
            headers.append((b"access-control-allow-methods", wanted_method))
            headers.append((b"access-control-max-age", b"%d" % _MAX_AGE_S))
            wanted_headers = find_header(exchange.headers, b"access-control-request-headers")
            if wanted_headers:
                headers.append((b"access-control-allow-headers", wanted_headers))
        await _answer(exchange, 200, headers)


def is_preflight(exchange: Exchange) -> bool:
    """Whether a browser asks what another request may be."""
    return exchange.method == "OPTIONS" and find_header(exchange.headers, _WANTED_METHOD) is not None


async def _answer(exchange: Exchange, status: int, headers: Headers) -> None:
    exchange.status = status
    await exchange.send({"type": "http.response.start", "status": status, "headers": headers})
    await exchange.send({"type": "http.response.body", "body": b""})
