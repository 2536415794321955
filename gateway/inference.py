"""`/v1/*`: requests that name a model, and the list of models."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from gateway.authenticate import Authenticator
from gateway.body import hold_body, read_body
from gateway.demand import Demand
from gateway.errors import GatewayError, forbidden_instance, send_json, unknown_instance
from gateway.exchange import Exchange
from gateway.forward import Forwarder
from gateway.keys import drop_query_key
from gateway.model_name import find_model, replace_model
from gateway.routes import RouteTable
from gateway.structs import Principal, Route

_LIST_PATH = "/v1/models"


class InferenceRoutes:
    """Serves everything under `/v1`."""

    def __init__(
        self,
        authenticator: Authenticator,
        routes: RouteTable,
        demand: Demand,
        forwarder: Forwarder,
        *,
        look_again: Callable[[], Awaitable[None]],
        max_body_bytes: int,
    ) -> None:
        self._authenticator = authenticator
        self._routes = routes
        self._demand = demand
        self._forwarder = forwarder
        self._look_again = look_again
        self._max_body_bytes = max_body_bytes

    async def serve(self, exchange: Exchange) -> None:
        """Answer one request. Raises `GatewayError` and `ClientGone`."""
        principal = exchange.principal = await self._authenticator.require_inference(exchange)
        self._routes.require_loaded()
        if exchange.method == "POST":
            await self._forward(exchange, principal)
        elif exchange.method in ("GET", "HEAD") and (exchange.path + "/").startswith(_LIST_PATH + "/"):
            await self._describe_models(exchange, principal)
        else:
            message = f"{exchange.method} {exchange.path} is not served; inference requests are sent with POST"
            raise GatewayError(405, "method_not_allowed", message, allow="POST")

    async def _forward(self, exchange: Exchange, principal: Principal) -> None:
        body = await read_body(exchange, self._max_body_bytes)
        model = exchange.model = find_model(body)
        while True:
            resolved = self._routes.resolve_model(model)
            if resolved is None:
                await self._look_again()
                resolved = self._routes.resolve_model(model)
            if resolved is None:
                raise unknown_instance(model, param="model")
            route, wanted_model = resolved
            if not principal.may_use(route.instance_id):
                raise forbidden_instance()
            if route.is_routable:
                break
            exchange.route = route
            await self._demand.wait_ready(route, principal, exchange.receive)
            # Keys and routes may have changed during the wait.
            principal = exchange.principal = await self._authenticator.require_inference(exchange)
        if wanted_model is not None and wanted_model != model:
            body = replace_model(body, wanted_model)
        query = drop_query_key(exchange.query)
        await self._forwarder.forward(exchange, route, exchange.raw_path, query, hold_body(body))

    async def _describe_models(self, exchange: Exchange, principal: Principal) -> None:
        wanted = exchange.path[len(_LIST_PATH) + 1 :].rstrip("/")
        usable = [route for route in self._routes.by_name.values() if principal.may_use(route.instance_id)]
        answer: dict[str, object]
        if wanted:
            found = [route for route in usable if route.name == wanted]
            if not found:
                raise unknown_instance(wanted, param="model")
            answer = _describe(found[0])
        else:
            answer = {"object": "list", "data": [_describe(route) for route in usable]}
        exchange.status = 200
        await send_json(exchange.send, 200, msgspec.json.encode(answer), exchange.extra_headers)


def _describe(route: Route) -> dict[str, object]:
    return {"id": route.name, "object": "model", "created": route.created, "owned_by": "corral"}
