"""`/upstream/{model}/*`: everything an engine serves, by its model's name in the path (llama-swap's reference, 8)."""

from __future__ import annotations

import re
from urllib.parse import unquote

import msgspec

from gateway.body import begin_body
from gateway.commands import Caller, Commands, require_manager
from gateway.error_form import answer_error
from gateway.errors import OPENAI, STRING, GatewayError, forbidden_instance, send_json, unknown_model, wrong_method
from gateway.exchange import Exchange
from gateway.metadata import asks_for_metadata
from gateway.serving import Serving
from gateway.structs import Principal, Route

PREFIX = b"/upstream/"
_ASSET = re.compile(rb".*\.(?:js|json|css|png|gif|jpg|jpeg|ico|txt)")
_SAFE_METHODS = frozenset(("GET", "HEAD"))


class ModelProxyRoutes:
    """Forwards any method and path to a model, which is started first; unloads and loads models."""

    form = OPENAI

    def __init__(self, serving: Serving, commands: Commands) -> None:
        self._serving = serving
        self._commands = commands

    async def serve(self, exchange: Exchange) -> None:
        """Answer one request. Raises `GatewayError` and `ClientGone`."""
        raw = exchange.raw_path.removeprefix(PREFIX)
        if not raw.strip(b"/") or raw == b"/upstream":
            await _redirect(exchange, b"/", 302)
            return
        authenticate = self._serving.authenticator.require_inference
        principal = await self._serving.enter(exchange, authenticate)

        def look() -> tuple[Route, str, bytes] | None:
            return self._serving.routes.split_path(raw)

        found = await self._serving.find(look)
        if found is None:
            error = unknown_model(guess_name(exchange.method, raw))
            await answer_error(exchange, error, STRING)
            return
        route, name, path = found
        exchange.model = name
        if exchange.method == "DELETE" and path in (b"", b"/"):
            await self._unload(exchange, principal, route, name)
        elif exchange.method == "GET" and path.rstrip(b"/") == b"/load" and b"passthrough=1" not in exchange.query:
            await self._load(exchange, principal, raw, name, was_ready=route.is_routable)
        elif not path:
            location = exchange.raw_path + b"/" + (b"?" + exchange.query if exchange.query else b"")
            await _redirect(exchange, location, 301 if exchange.method in _SAFE_METHODS else 308)
        else:
            if not route.is_routable and _ASSET.fullmatch(path):
                exchange.route = route
                message = f"model {name} is not loaded; a request for a page's file doesn't load it"
                raise GatewayError(409, "model_not_loaded", message)
            exchange.is_metadata = asks_for_metadata(exchange.method, path)
            body = await self._serving.read_for(exchange, route)
            keep_reading = body.stream.keep_reading if body.stream is not None else None
            reached = await self._serving.reach(
                exchange, authenticate, look, lambda: unknown_model(name), keep_reading=keep_reading
            )
            await self._serving.forward(exchange, reached[0], path, body)

    async def _unload(self, exchange: Exchange, principal: Principal, route: Route, name: str) -> None:
        exchange.route = route
        require_manager(principal)
        if not principal.may_use(route.instance_id):
            raise forbidden_instance()
        if route.state in ("stopped", "failed"):
            await _answer(exchange, 409, {"status": "error", "message": f"{name} is not running"})
            return
        await self._commands.stop(Caller.of(exchange, principal), [route.instance_id])
        await self._serving.look_again()
        await _answer(exchange, 200, {"status": "ok", "message": f"{name} stopped"})

    async def _load(self, exchange: Exchange, principal: Principal, raw: bytes, name: str, *, was_ready: bool) -> None:
        authenticator = self._serving.authenticator
        if exchange.principal is not None and exchange.principal.kind == "session":
            # Another site's link must not make a signed-in visitor load models.
            raise wrong_method(exchange.method, exchange.path, "POST")
        await begin_body(exchange)
        try:
            route, *_ = await self._serving.reach(
                exchange,
                authenticator.require_inference,
                lambda: self._serving.routes.split_path(raw),
                lambda: unknown_model(name),
            )
            if not was_ready:
                await self._commands.note(Caller.of(exchange, principal), "load", route.instance_id)
        except GatewayError as error:
            await answer_error(exchange, error, STRING)
            return
        await _answer(exchange, 200, {"status": "ok", "message": f"{name} is ready"})


def guess_name(method: str, raw: bytes) -> str:
    """The model that a path without a known one means: all of it where a model is named alone, else its beginning."""
    path = raw.rstrip(b"/")
    is_alone = method == "DELETE" or (method == "GET" and path.endswith(b"/load"))
    name = path.removesuffix(b"/load") if is_alone else path.partition(b"/")[0]
    return unquote(name.decode("latin-1"))


async def _answer(exchange: Exchange, status: int, answer: dict[str, str]) -> None:
    exchange.status = status
    await send_json(exchange.send, status, msgspec.json.encode(answer), exchange.extra_headers)


async def _redirect(exchange: Exchange, location: bytes, status: int) -> None:
    exchange.status = status
    headers = [(b"location", location), (b"content-length", b"0"), *exchange.extra_headers]
    await exchange.send({"type": "http.response.start", "status": status, "headers": headers})
    await exchange.send({"type": "http.response.body", "body": b""})
