"""`/llama-cpp/{name}/*`: llama-server's own interface with an inference key (llamactl's reference, 1.10 and 5.3)."""

from __future__ import annotations

from gateway.asgi import find_header
from gateway.body import begin_body
from gateway.errors import OPENAI, GatewayError, unknown_instance, wrong_method
from gateway.exchange import Exchange
from gateway.metadata import asks_for_metadata
from gateway.page import confine_page, drop_redirects, is_page_file
from gateway.serving import Serving
from gateway.structs import ANONYMOUS, Route

PREFIX = b"/llama-cpp/"
BACKEND_TYPE = "llama_cpp"
_METHODS = {
    b"/props": "GET, POST",
    b"/slots": "GET",
    b"/apply-template": "POST",
    b"/completion": "POST",
    b"/detokenize": "POST",
    b"/embeddings": "POST",
    b"/infill": "POST",
    b"/metrics": "POST",
    b"/reranking": "POST",
    b"/tokenize": "POST",
}


class LlamaCppRoutes:
    """Forwards a fixed list of paths, the name in the path and the body untouched. All but the page may start it."""

    form = OPENAI

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    async def serve(self, exchange: Exchange) -> None:
        """Answer one request. Raises `GatewayError` and `ClientGone`."""
        raw = exchange.raw_path.removeprefix(PREFIX)
        may_be_page = exchange.method == "GET" and (raw.endswith(b"/") or b"/" not in raw or is_page_file(raw))
        if may_be_page and await self._serve_page(exchange, raw):
            return
        exchange.send = drop_redirects(exchange.send)
        authenticate = self._serving.authenticator.require_inference
        await self._serving.enter(exchange, authenticate)
        _, name, path = await self._find(raw)
        exchange.model = name
        path = path.rstrip(b"/") or b"/"
        check_path(exchange.method, path)
        exchange.is_metadata = asks_for_metadata(exchange.method, path)
        body = await begin_body(exchange)
        reached = await self._serving.reach(
            exchange,
            authenticate,
            lambda: self._look(raw),
            lambda: unknown_instance(name),
            keep_reading=body.stream.keep_reading if body.stream is not None else None,
        )
        await self._serving.forward(exchange, reached[0], path, body)

    def _look(self, raw: bytes) -> tuple[Route, str, bytes] | None:
        found = self._serving.routes.split_path(raw)
        if found is not None:
            require_llama_cpp(found[0])
        return found

    async def _find(self, raw: bytes) -> tuple[Route, str, bytes]:
        found = await self._serving.find(lambda: self._look(raw))
        if found is None:
            raise unknown_instance(raw.partition(b"/")[0].decode("latin-1"))
        return found

    async def _serve_page(self, exchange: Exchange, raw: bytes) -> bool:
        """The web page of llama-server and its files, for everybody. Never starts the instance.

        Returns False for what isn't part of it.
        """
        routes = self._serving.routes
        routes.require_loaded()
        route, name, path = await self._find(raw)
        if path.strip(b"/") and not is_page_file(path):
            return False
        exchange.model = name
        exchange.principal = ANONYMOUS
        exchange.route = route
        # Strangers can't take places with it, keep the model from idling, or fill the records.
        exchange.is_metadata = True
        if not path and b"text/html" in (find_header(exchange.headers, b"accept") or b""):
            await _add_slash(exchange)  # the page names its files relative to its folder
            return True
        if not route.is_routable:
            raise GatewayError(400, "instance_not_running", "Instance is not running")
        exchange.send = drop_redirects(exchange.send)
        exchange.extra_headers += confine_page(exchange, exchange.raw_path.removesuffix(path) + b"/")
        body = await begin_body(exchange)
        route = await self._serving.reach_running(exchange, ANONYMOUS, lambda: routes.by_any_name.get(name))
        await self._serving.forward(exchange, route, path or b"/", body)
        return True


async def _add_slash(exchange: Exchange) -> None:
    location = exchange.raw_path + b"/" + (b"?" + exchange.query if exchange.query else b"")
    exchange.status = 301
    headers = [(b"location", location), (b"content-length", b"0"), *exchange.extra_headers]
    await exchange.send({"type": "http.response.start", "status": 301, "headers": headers})
    await exchange.send({"type": "http.response.body", "body": b""})


def require_llama_cpp(route: Route) -> None:
    """Raise `GatewayError` 400 when the instance is of another kind."""
    if route.backend_type != BACKEND_TYPE:
        raise GatewayError(400, "invalid_instance", "instance is not a llama.cpp server")


def check_path(method: str, path: bytes) -> None:
    """Raise `GatewayError` 404 or 405 for what is not in the list. `path` has no slash at its end."""
    allowed = "POST" if path.startswith(b"/v1/") else "GET" if path == b"/" else _METHODS.get(path)
    shown = path.decode("latin-1")
    if allowed is None:
        message = f"{shown} is not served under /llama-cpp; use /upstream/{{model}} for other paths"
        raise GatewayError(404, "not_found", message)
    if method not in allowed.split(", "):
        raise wrong_method(method, shown, allowed)
