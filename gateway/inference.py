"""Requests that name a model: `/v1/*`, and llama-server's own paths at the root."""

from __future__ import annotations

from gateway.authenticate import Authenticator
from gateway.errors import OPENAI, GatewayError, no_model, unknown_model, wrong_method
from gateway.exchange import Exchange
from gateway.metadata import asks_for_metadata
from gateway.model_list import ModelList
from gateway.named import HeldBody, NamedBody, find_query_model
from gateway.native import find_native_path
from gateway.serving import Serving
from gateway.structs import Principal, Route

_WITH_BODY = frozenset(("POST", "PUT", "PATCH", "DELETE"))
_STATEFUL_DEPTH = 4
"""Slashes in the path of something that an engine keeps: `/v1/responses/{id}/cancel`."""
_LIST_PATHS = ("/v1/models", "/models")


class InferenceRoutes:
    """Finds the model of a request, and forwards the request to its instance."""

    form = OPENAI

    def __init__(self, serving: Serving, model_list: ModelList) -> None:
        self._serving = serving
        self._model_list = model_list
        self._authenticator: Authenticator = serving.authenticator

    async def serve(self, exchange: Exchange) -> None:
        """Answer one request. Raises `GatewayError` and `ClientGone`."""
        principal = await self._serving.identify(exchange, self._authenticator.require_inference)
        path = exchange.path
        if path.startswith(_LIST_PATHS) and await self._serve_list(exchange, principal):
            return
        await self._serving.count(exchange, principal)
        is_native = not path.startswith("/v1/")
        raw_path = exchange.raw_path
        target = find_native_path(exchange.method, raw_path) if is_native else raw_path.rstrip(b"/")
        exchange.is_metadata = asks_for_metadata(exchange.method, target)
        if exchange.method in _WITH_BODY:
            named = await self._serving.read_named(exchange)
        else:
            named = HeldBody(await self._serving.read_whole(exchange), find_query_model(exchange.query))
        if named.model:
            await self._forward_named(exchange, named, target)
        else:
            if named.refusal is not None and exchange.method != "DELETE":
                may_be_nameless = is_native or target.count(b"/") >= _STATEFUL_DEPTH
                if not may_be_nameless or named.refusal.param != "model":
                    raise named.refusal
            await self._forward_nameless(exchange, principal, named, target)

    async def _serve_list(self, exchange: Exchange, principal: Principal) -> bool:
        for prefix in _LIST_PATHS:
            rest = exchange.path.removeprefix(prefix)
            if exchange.path.startswith(prefix) and (not rest or rest[0] == "/"):
                if exchange.method not in ("GET", "HEAD"):
                    raise wrong_method(exchange.method, exchange.path, "GET")
                await self._model_list.answer(exchange, principal, rest.strip("/"))
                return True
        return False

    async def _forward_named(self, exchange: Exchange, named: NamedBody, target: bytes) -> None:
        serving = self._serving
        model = exchange.model = named.model
        route, wanted = await serving.reach(
            exchange,
            self._authenticator.require_inference,
            lambda: serving.routes.resolve_model(model),
            lambda: unknown_model(model),
            keep_reading=named.keep_reading,
            body=named.body.data if isinstance(named, HeldBody) else b"",
        )
        await serving.forward(exchange, route, target, named.ask_for(wanted), model=wanted)

    async def _forward_nameless(
        self, exchange: Exchange, principal: Principal, named: NamedBody, target: bytes
    ) -> None:
        """Forward to the only ready model; a request without a name never starts one (llama-swap's reference, 8-11)."""
        routes = self._serving.routes

        def look() -> tuple[Route] | None:
            route = routes.find_only_ready(principal)
            return None if route is None else (route,)

        def refuse() -> GatewayError:
            return no_model(routes.list_ready(principal))

        if look() is None:
            raise refuse()
        (route,) = await self._serving.reach(exchange, self._authenticator.require_inference, look, refuse)
        exchange.model = route.name
        await self._serving.forward(exchange, route, target, named.ask_for(None))
