"""`GET /metrics` for Prometheus."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from gateway.asgi import find_header
from gateway.errors import STRING, wrong_method
from gateway.exchange import Exchange
from gateway.metrics import Rendering
from gateway.serving import Serving

Render = Callable[[str, Callable[[int], bool] | None], Awaitable[Rendering]]


class ScrapeRoute:
    """Shows a key the figures of the instances that it may use; hosts' figures go to those who may use all."""

    form = STRING

    def __init__(self, serving: Serving, render: Render) -> None:
        self._serving = serving
        self._render = render

    async def serve(self, exchange: Exchange) -> None:
        """Answer one request. Raises `GatewayError` 401 and 405."""
        principal = await self._serving.identify(exchange, self._serving.authenticator.require_inference)
        if exchange.method not in ("GET", "HEAD"):
            raise wrong_method(exchange.method, exchange.path, "GET")
        accept = (find_header(exchange.headers, b"accept") or b"").decode("latin-1")
        usable = None if principal.instances is None else principal.may_use
        status, content_type, body = await self._render(accept, usable)
        exchange.status = status
        headers = [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body))]
        headers += exchange.extra_headers
        await exchange.send({"type": "http.response.start", "status": status, "headers": headers})
        await exchange.send({"type": "http.response.body", "body": body})
