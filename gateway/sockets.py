"""WebSockets to models: `/v1/*?model=`, `/upstream/{model}/*`, `/api/v1/instances/{name}/proxy/*`."""

from __future__ import annotations

from typing import Any

from gateway.activity import Activity
from gateway.asgi import Message, Receive, Scope, Send
from gateway.errors import ClientGone, GatewayError, forbidden_instance, no_model, unknown_instance, unknown_model
from gateway.exchange import Exchange
from gateway.instance_proxy import is_proxy_path, split_proxy_path
from gateway.model_proxy import PREFIX as MODEL_PREFIX
from gateway.model_proxy import guess_name
from gateway.named import find_query_model
from gateway.serving import Serving, write_query
from gateway.structs import Route
from gateway.websocket import refuse_websocket, relay_websocket

KEY_SUBPROTOCOL = "openai-insecure-api-key."
"""By such a subprotocol browsers send their key to OpenAI's realtime API, as they can't set headers."""


def handles_socket(path: str) -> bool:
    """Whether a WebSocket at this path goes to a model."""
    return path.startswith(("/v1/", "/upstream/")) or is_proxy_path(path)


class SocketRoutes:
    """Finds the instance of a WebSocket as for a request, then carries its messages."""

    def __init__(self, serving: Serving, activity: Activity) -> None:
        self._serving = serving
        self._activity = activity

    def open(self, scope: Scope, receive: Receive, send: Send) -> Exchange:
        """The exchange of a WebSocket; its status is 101 once the client was accepted."""
        keys = [
            (b"x-api-key", subprotocol.removeprefix(KEY_SUBPROTOCOL).encode())
            for subprotocol in scope.get("subprotocols", ())
            if subprotocol.startswith(KEY_SUBPROTOCOL)
        ]
        exchange = Exchange({**scope, "method": "GET", "headers": [*scope["headers"], *keys]}, receive, send)

        async def note_and_send(message: Message) -> None:
            if message["type"] == "websocket.accept":
                exchange.status = 101
            elif message["type"] == "websocket.http.response.start":
                exchange.status = message["status"]
            await send(message)

        exchange.send = note_and_send
        return exchange

    async def serve(self, exchange: Exchange) -> None:
        """Carry one WebSocket until it ends; a refusal is told before it is accepted."""
        knock = _Knock(exchange.receive)
        try:
            route, path, query = await self._find(exchange, knock)
            await relay_websocket(
                exchange.scope,
                knock.receive,
                exchange.send,
                route=route,
                path=path,
                query=query,
                activity=self._activity,
            )
        except GatewayError as error:
            exchange.outcome, exchange.error_message = "refused", error.message
            exchange.status = error.status
            await refuse_websocket(exchange.scope, exchange.send, error)
        except ClientGone:
            exchange.outcome = "cancelled"

    async def _find(self, exchange: Exchange, knock: _Knock) -> tuple[Route, bytes, bytes]:
        """The instance, with the path and the query there."""
        query = write_query(exchange.query, None)
        if is_proxy_path(exchange.path):
            return *await self._find_instance(exchange), query
        authenticator, routes = self._serving.authenticator, self._serving.routes
        principal = await self._serving.enter(exchange, authenticator.require_inference)
        if exchange.path.startswith("/upstream/"):
            raw = exchange.raw_path.removeprefix(MODEL_PREFIX)
            wanted = guess_name("", raw)
            found = await self._serving.reach(
                exchange,
                authenticator.require_inference,
                lambda: routes.split_path(raw),
                lambda: unknown_model(wanted),
                keep_reading=knock.wait_for_departure,
            )
            exchange.model = found[1]
            return found[0], found[2] or b"/", query
        path = exchange.raw_path.rstrip(b"/")
        model = exchange.model = find_query_model(exchange.query)
        if not model:
            if routes.find_only_ready(principal) is None:
                raise no_model(routes.list_ready(principal))
            only = await self._serving.reach(
                exchange,
                authenticator.require_inference,
                lambda: None if (route := routes.find_only_ready(principal)) is None else (route,),
                lambda: no_model(routes.list_ready(principal)),
                keep_reading=knock.wait_for_departure,
            )
            return only[0], path, query
        reached = await self._serving.reach(
            exchange,
            authenticator.require_inference,
            lambda: routes.resolve_model(model),
            lambda: unknown_model(model),
            keep_reading=knock.wait_for_departure,
        )
        return reached[0], path, write_query(exchange.query, reached[1])

    async def _find_instance(self, exchange: Exchange) -> tuple[Route, bytes]:
        principal = await self._serving.enter(exchange, self._serving.authenticator.require_management)
        name, path = split_proxy_path(exchange.raw_path)
        route = exchange.route = await self._serving.find(lambda: self._serving.routes.by_name.get(name))
        if route is None:
            raise unknown_instance(name)
        if not principal.may_use(route.instance_id):
            raise forbidden_instance()
        routes = self._serving.routes
        return await self._serving.reach_running(exchange, principal, lambda: routes.by_name.get(name)), path


class _Knock:
    """A client that has asked for a WebSocket and was not let in yet."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._first: Message | None = None

    async def receive(self) -> Message:
        """The next message, the request to connect first."""
        first, self._first = self._first, None
        return first if first is not None else await self._receive()

    async def wait_for_departure(self) -> Any:
        """Raise `ClientGone` when the client goes before it was let in."""
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                raise ClientGone
            self._first = message
