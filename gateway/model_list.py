"""`GET /v1/models`, `/v1/models/{id}` and `/models`: what a principal may use, in the forms clients expect."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from gateway.asgi import find_header
from gateway.errors import send_json, unknown_model
from gateway.exchange import Exchange
from gateway.inner_models import InnerModels
from gateway.routes import RouteTable
from gateway.structs import Principal, Route

_UNLOADED = frozenset(("stopped", "failed", "backoff"))


class ModelList:
    """Describes the instances as models, sorted by id."""

    def __init__(self, routes: RouteTable, inner_models: InnerModels) -> None:
        self._routes = routes
        self._inner_models = inner_models

    async def answer(self, exchange: Exchange, principal: Principal, wanted: str) -> None:
        """Answer with one model, or with all when `wanted` is empty. Raises `GatewayError` 404."""
        usable = [route for route in self._routes.by_id.values() if principal.may_use(route.instance_id)]
        is_anthropic = find_header(exchange.headers, b"anthropic-version") is not None
        inner = await self._inner_models.list_models(usable)
        entries = [entry for route in usable if not route.unlisted for entry in _describe(route, inner.get(route.name))]
        answer: object
        if wanted:
            entry = self._find(wanted, usable, entries)
            answer = _for_anthropic(entry) if is_anthropic else entry
        elif is_anthropic:
            ids: list[object] = [entry["id"] for entry in entries] or [None]
            models = [_for_anthropic(entry) for entry in entries]
            answer = {"data": models, "has_more": False, "first_id": ids[0], "last_id": ids[-1]}
        else:
            entries.sort(key=lambda entry: str(entry["id"]))
            answer = {"object": "list", "data": entries}
        exchange.status = 200
        await send_json(exchange.send, 200, msgspec.json.encode(answer), exchange.extra_headers)

    def _find(self, wanted: str, usable: list[Route], entries: list[dict[str, object]]) -> dict[str, object]:
        for entry in entries:
            if entry["id"] == wanted:
                return entry
        for route in usable:  # by alias, and what is not listed
            if wanted == route.name or wanted in route.aliases:
                return {**_describe(route, None)[0], "id": wanted}
        raise unknown_model(wanted)


def _describe(route: Route, inner: list[str] | None) -> list[dict[str, object]]:
    """The entries of an instance: its own, and in router mode one for each model in it (llamactl's reference, 1.9)."""
    about: dict[str, object] = {"type": "model"}
    if route.aliases:
        about["aliases"] = list(route.aliases)
    entry: dict[str, object] = {
        "id": route.name,
        "object": "model",
        "created": route.created,
        "owned_by": "corral",
        "name": route.name,
        "meta": {"llamaswap": about},
        "status": {"value": "unloaded" if route.state in _UNLOADED else "loaded"},
    }
    if route.description:
        entry["description"] = route.description
    models = [
        {"id": f"{route.name}/{model}", "object": "model", "created": route.created, "owned_by": route.name}
        for model in inner or ()
    ]
    return models if len(models) > 1 else [*models, entry]


def _for_anthropic(entry: dict[str, object]) -> dict[str, object]:
    created = datetime.fromtimestamp(int(str(entry["created"])), UTC).isoformat().replace("+00:00", "Z")
    return {"type": "model", "id": entry["id"], "display_name": entry["id"], "created_at": created}
