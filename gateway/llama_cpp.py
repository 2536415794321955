"""`/llama-cpp/{name}/*`: llama-server's own interface with an inference key (llamactl's reference, 1.10 and 5.3)."""

from __future__ import annotations

from gateway.body import begin_body
from gateway.errors import OPENAI, GatewayError, unknown_instance, wrong_method
from gateway.exchange import Exchange
from gateway.metadata import asks_for_metadata
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
_UI = [(b"x-frame-options", b"DENY")]


class LlamaCppRoutes:
    """Forwards a fixed list of paths, the name in the path and the body untouched. All but the root may start it."""

    form = OPENAI

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    async def serve(self, exchange: Exchange) -> None:
        """Answer one request. Raises `GatewayError` and `ClientGone`."""
        raw = exchange.raw_path.removeprefix(PREFIX)
        may_be_root = exchange.method == "GET" and (raw.endswith(b"/") or b"/" not in raw)
        if may_be_root and await self._serve_root(exchange, raw):
            return
        authenticate = self._serving.authenticator.require_inference
        await self._serving.enter(exchange, authenticate)
        _, name, path = await self._find(raw)
        exchange.model = name
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

    async def _serve_root(self, exchange: Exchange, raw: bytes) -> bool:
        """The web page of llama-server, for everybody; it asks for a key itself. Never starts the instance."""
        routes = self._serving.routes
        routes.require_loaded()
        route, name, path = await self._find(raw)
        if path not in (b"", b"/"):
            return False
        exchange.model = name
        exchange.principal = ANONYMOUS
        exchange.route = route
        if not route.is_routable:
            raise GatewayError(400, "instance_not_running", "Instance is not running")
        exchange.is_metadata = True  # strangers can't take places with it, nor keep the model from idling
        exchange.extra_headers += _UI
        body = await begin_body(exchange)
        route = await self._serving.reach_running(exchange, ANONYMOUS, lambda: routes.by_any_name.get(name))
        await self._serving.forward(exchange, route, b"/", body)
        return True


def require_llama_cpp(route: Route) -> None:
    """Raise `GatewayError` 400 when the instance is of another kind."""
    if route.backend_type != BACKEND_TYPE:
        raise GatewayError(400, "invalid_instance", "instance is not a llama.cpp server")


def check_path(method: str, path: bytes) -> None:
    """Raise `GatewayError` 404 or 405 for what is not in the list."""
    path = path.rstrip(b"/") or b"/"
    allowed = "POST" if path.startswith(b"/v1/") else "GET" if path == b"/" else _METHODS.get(path)
    shown = path.decode("latin-1")
    if allowed is None:
        message = f"{shown} is not served under /llama-cpp; use /upstream/{{model}} for other paths"
        raise GatewayError(404, "not_found", message)
    if method not in allowed.split(", "):
        raise wrong_method(method, shown, allowed)
