"""`/api/v1/llama-cpp/{name}/models`: the models inside a llama-server in router mode (llamactl's reference, 1.5)."""

from __future__ import annotations

from urllib.parse import unquote

import msgspec

from gateway.body import hold_body
from gateway.commands import Action, Caller, Commands
from gateway.errors import MANAGEMENT, GatewayError, unknown_instance, wrong_method
from gateway.exchange import Exchange
from gateway.llama_cpp import require_llama_cpp
from gateway.metadata import asks_for_metadata
from gateway.serving import Serving
from gateway.structs import Route

PREFIX = b"/api/v1/llama-cpp/"
_ACTIONS = (b"/load", b"/unload")


class RouterModeRoutes:
    """Lists, loads and unloads models; starts the instance if it may be started on demand."""

    form = MANAGEMENT

    def __init__(self, serving: Serving, commands: Commands) -> None:
        self._serving = serving
        self._commands = commands

    async def serve(self, exchange: Exchange) -> None:
        """Answer one request. Raises `GatewayError` and `ClientGone`."""
        authenticate = self._serving.authenticator.require_management
        principal = await self._serving.enter(exchange, authenticate)
        raw_name, _, rest = exchange.raw_path.removeprefix(PREFIX).partition(b"/")
        name = unquote(raw_name.decode("latin-1"))
        target, model = split_action(exchange.method, b"/" + rest.rstrip(b"/"))
        exchange.is_metadata = asks_for_metadata(exchange.method, target)
        data = (await self._serving.read_whole(exchange)).data
        details = {"model": model, "body": data.decode(errors="replace")} if data.strip() else {"model": model}
        if target != b"/models" and not data.strip():
            data = msgspec.json.encode({"model": model})
        (route,) = await self._serving.reach(
            exchange, authenticate, lambda: self._look(name), lambda: unknown_instance(name)
        )
        exchange.model = f"{name}/{model}" if model else name
        if target == b"/models/load" and not principal.can_start:
            message = f"Model {model} of instance {name} would be loaded and this key may not start instances"
            raise GatewayError(403, "permission_denied", message)
        if target != b"/models":
            action: Action = "load_model" if target.endswith(b"/load") else "unload_model"
            await self._commands.note(Caller.of(exchange, principal), action, route.instance_id, details)
        await self._serving.forward(exchange, route, target, hold_body(data))

    def _look(self, name: str) -> tuple[Route] | None:
        route = self._serving.routes.by_name.get(name)
        if route is not None:
            require_llama_cpp(route)
        return None if route is None else (route,)


def split_action(method: str, path: bytes) -> tuple[bytes, str]:
    """The engine's path and the model of `/models[/{model}/load|unload]`. Raises `GatewayError` 404 and 405."""
    if path == b"/models":
        if method not in ("GET", "HEAD"):
            raise wrong_method(method, path.decode(), "GET")
        return b"/models", ""
    for action in _ACTIONS:
        model = path.removeprefix(b"/models/").removesuffix(action)
        if path.startswith(b"/models/") and path.endswith(action) and model:
            if method != "POST":
                raise wrong_method(method, path.decode("latin-1"), "POST")
            return b"/models" + action, unquote(model.decode("latin-1"))
    raise GatewayError(404, "not_found", f"There is nothing at {path.decode('latin-1')}")
