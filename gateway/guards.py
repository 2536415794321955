"""What requests may not make an engine do, whatever address they come by."""

from __future__ import annotations

import msgspec

from gateway.body import RequestBody, hold_body, refuse_fields
from gateway.errors import GatewayError
from gateway.model_name import replace_model
from gateway.structs import Route

_LOADERS: dict[str, tuple[str, ...]] = {"mlx_lm": ("adapters", "draft_model")}
"""By engine: members of a JSON body by which it would load what the request names, from its disk or from a hub. Such an
engine also loads the `model` of a request, if that isn't the one it was started with."""


class _Members(msgspec.Struct):
    model: object = None


def must_be_guarded(route: Route) -> bool:
    """Whether requests for this instance must be looked into, so that their bodies must be held."""
    return route.backend_type in _LOADERS


def guard_body(route: Route, body: RequestBody) -> RequestBody:
    """The body as the engine may have it. Raises `GatewayError` 400 for what it may not have."""
    names = _LOADERS.get(route.backend_type)
    if names is None or (body.is_whole and not body.data.strip()):
        return body
    if not body.is_whole:
        raise GatewayError(400, "invalid_request", "This engine takes JSON only, no uploads")
    try:
        model = msgspec.json.decode(body.data, type=_Members).model
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise GatewayError(400, "invalid_request", f"Invalid request body: {error}") from error
    refuse_fields(body.data, names)
    if route.served_model is not None and model is not None and model != route.served_model:
        return hold_body(replace_model(body.data, route.served_model))
    return body
