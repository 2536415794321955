"""The gateway's addresses in the API's document: Django's router does not know them."""

from __future__ import annotations

import re
from typing import Any

from accounts.api.schema import ApiKeyScheme
from gateway.catalogue import ROUTES, CataloguedRoute

_CONTENT = {
    "json": {"application/json": {"schema": {"type": "object", "additionalProperties": True}}},
    "form": {"multipart/form-data": {"schema": {"type": "object", "additionalProperties": True}}},
    "any": {"*/*": {"schema": {}}},
}
_LISTS = frozenset(("/v1/models", "/v1/models/{model}"))
_REFUSALS = {
    "400": "The body can't be read, or names no model; or the engine refuses what it says.",
    "401": "No key (`Missing API key`) or `Invalid API key`.",
    "403": "The key may not use this model, or may not start it; or another site uses the visitor's session.",
    "404": "There is no such model.",
    "413": "The body is too large.",
    "429": "A limit is used up, too many wait for the model, or somebody tries keys; see `Retry-After`.",
    "502": "The engine can't be reached or broke off before it answered.",
    "503": "The model isn't ready and isn't started, or didn't get ready in time; or Corral can't tell who asks.",
    "504": "The engine took too long.",
}
"""What clients of the APIs under `/v1` are refused by, each with a body in their form."""
_LIST_REFUSALS = ("401", "403", "404", "429", "503")
_OVERLOADED = "529"
"""Anthropic's status for what is 503 elsewhere."""
_ERRORS: dict[str, dict[str, Any]] = {
    "InferenceError": {
        "type": "object",
        "description": "OpenAI's form. With the header `X-Error-Format: string`, `error` is the sentence itself.",
        "required": ["error"],
        "properties": {
            "error": {
                "oneOf": [
                    {
                        "type": "object",
                        "required": ["message", "type", "code"],
                        "properties": {
                            "message": {"type": "string"},
                            "type": {"type": "string"},
                            "code": {"nullable": True, "description": "Corral's are words, engines' may be numbers."},
                            "param": {"type": "string", "nullable": True},
                        },
                    },
                    {"type": "string"},
                ]
            }
        },
    },
    "MessagesError": {
        "type": "object",
        "description": "Anthropic's form.",
        "required": ["type", "error"],
        "properties": {
            "type": {"type": "string", "enum": ["error"]},
            "error": {
                "type": "object",
                "required": ["type", "message"],
                "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}


def add_gateway_routes(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Add what the gateway answers to the document (a postprocessing hook of drf-spectacular)."""
    for route in ROUTES:
        operations = result["paths"].setdefault(route.path, {})
        for method in route.methods:
            operations[method.lower()] = describe_operation(route, method)
    result.setdefault("components", {}).setdefault("schemas", {}).update(_ERRORS)
    return result


def describe_operation(route: CataloguedRoute, method: str) -> dict[str, Any]:
    """Return the OpenAPI operation of one method."""
    names = re.findall(r"{(\w+)}", route.path)
    words = re.sub(r"[^a-z0-9]+", "_", route.path.lower()).strip("_")
    operation: dict[str, Any] = {
        "operationId": f"gateway_{method.lower()}_{words}",
        "description": route.summary,
        "tags": ["management" if route.access == "management" else "inference"],
        "parameters": [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names],
        "security": [] if route.access == "public" else [{name: []} for name in ApiKeyScheme.name],
        "responses": {
            "200": {"description": "What the engine answers, or Corral for its own addresses."},
            "default": {"description": "An error with a sentence; see the table of errors in the documentation."},
        },
    }
    if route.path.startswith("/v1/") and "{path}" not in route.path:
        operation["responses"] |= describe_refusals(route.path)
    elif route.access != "public":
        operation["responses"]["401"] = {"description": "No key (`Missing API key`) or `Invalid API key`."}
    if route.body and method not in {"GET", "DELETE"}:
        operation["requestBody"] = {"content": _CONTENT[route.body]}
    return operation


def describe_refusals(path: str) -> dict[str, Any]:
    """Return what an API under ``/v1`` is refused by, with the form of the body."""
    is_anthropic = path.startswith("/v1/messages")
    schema = {"$ref": f"#/components/schemas/{'MessagesError' if is_anthropic else 'InferenceError'}"}
    statuses = _LIST_REFUSALS if path in _LISTS else tuple(_REFUSALS)
    named = {status: _REFUSALS[status] for status in statuses}
    if is_anthropic:
        named[_OVERLOADED] = named.pop("503")
    return {
        status: {"description": words, "content": {"application/json": {"schema": schema}}}
        for status, words in named.items()
    }
