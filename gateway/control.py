"""llama-swap's small management routes: `/running`, `/unload`, `/api/models/unload[/{model}]`."""

from __future__ import annotations

from urllib.parse import unquote

import msgspec

from gateway.body import begin_body
from gateway.commands import Caller, Commands, require_manager
from gateway.errors import STRING, forbidden_instance, send_json, unknown_model, wrong_method
from gateway.exchange import Exchange
from gateway.serving import Serving
from gateway.structs import Principal, Route

UNLOAD_PREFIX = "/api/models/unload"
_LIVE = frozenset(("starting", "ready", "stopping"))


class ControlRoutes:
    """Says which models run, and unloads them."""

    form = STRING

    def __init__(self, serving: Serving, commands: Commands) -> None:
        self._serving = serving
        self._commands = commands

    async def serve(self, exchange: Exchange) -> None:
        """Answer one request. Raises `GatewayError` and `ClientGone`."""
        principal = await self._serving.identify(exchange, self._serving.authenticator.require_inference)
        path = exchange.path.rstrip("/")
        if path == "/running":
            _require(exchange, "GET")
            await self._list_running(exchange, principal)
        elif path == "/unload":
            # A GET that changes something: from a page, another site could send it with the visitor's session.
            _require(exchange, "POST" if principal.kind == "session" else "GET, POST")
            await self._unload_all(exchange, principal)
            await _send_text(exchange, b"OK")
        elif path == UNLOAD_PREFIX:
            _require(exchange, "POST")
            await self._unload_all(exchange, principal)
            await self._send(exchange, {"msg": "ok"})
        else:
            _require(exchange, "POST")
            await self._serving.count(exchange, principal)  # it is recorded as the instance's
            name = unquote(exchange.raw_path[len(UNLOAD_PREFIX) + 1 :].decode("latin-1"))
            await self._unload_one(exchange, principal, name)
            await _send_text(exchange, b"OK")

    async def _list_running(self, exchange: Exchange, principal: Principal) -> None:
        usable = [route for route in self._serving.routes.by_name.values() if principal.may_use(route.instance_id)]
        if b"detail=1" in exchange.query.split(b"&"):
            live = sorted((route for route in usable if route.state in _LIVE), key=lambda route: route.name)
            await self._send(exchange, {"running": await self._describe(live, principal)})
        else:
            await self._send(exchange, {"running": sorted(route.name for route in usable if route.state == "ready")})

    async def _describe(self, routes: list[Route], principal: Principal) -> list[dict[str, object]]:
        """Where an engine listens and how it was started is for those who manage it."""
        is_manager = principal.kind != "inference"
        commands = await self._commands.describe([route.instance_id for route in routes]) if is_manager else {}
        return [
            {
                "model": route.name,
                "state": route.state,
                "cmd": commands.get(route.instance_id, ""),
                "proxy": f"http://{route.host}:{route.port}" if is_manager and route.host else "",
                "ttl": route.ttl_s,
                "name": route.name,
                "description": route.description,
            }
            for route in routes
        ]

    async def _unload_all(self, exchange: Exchange, principal: Principal) -> None:
        await begin_body(exchange)
        require_manager(principal)
        routes = self._serving.routes.by_id.values()
        running = [
            route.instance_id for route in routes if route.state in _LIVE and principal.may_use(route.instance_id)
        ]
        await self._commands.stop(Caller.of(exchange, principal), running)
        await self._serving.look_again()

    async def _unload_one(self, exchange: Exchange, principal: Principal, name: str) -> None:
        await begin_body(exchange)
        require_manager(principal)
        route = await self._serving.find(lambda: self._serving.routes.by_any_name.get(name))
        if route is None:
            raise unknown_model(name)
        exchange.route = route
        if not principal.may_use(route.instance_id):
            raise forbidden_instance()
        if route.state in _LIVE or route.state == "backoff":
            await self._commands.stop(Caller.of(exchange, principal), [route.instance_id])
            await self._serving.look_again()

    async def _send(self, exchange: Exchange, answer: object) -> None:
        exchange.status = 200
        await send_json(exchange.send, 200, msgspec.json.encode(answer), exchange.extra_headers)


def _require(exchange: Exchange, methods: str) -> None:
    if exchange.method not in methods.split(", "):
        raise wrong_method(exchange.method, exchange.path, methods)


async def _send_text(exchange: Exchange, text: bytes) -> None:
    exchange.status = 200
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(text))]
    await exchange.send({"type": "http.response.start", "status": 200, "headers": headers + exchange.extra_headers})
    await exchange.send({"type": "http.response.body", "body": text})
