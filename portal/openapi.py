"""The gateway's addresses in the API's document: Django's router does not know them."""

from __future__ import annotations

import re
from typing import Any

from gateway.catalogue import ROUTES, CataloguedRoute

_CONTENT = {
    "json": {"application/json": {"schema": {"type": "object", "additionalProperties": True}}},
    "form": {"multipart/form-data": {"schema": {"type": "object", "additionalProperties": True}}},
    "any": {"*/*": {"schema": {}}},
}


def add_gateway_routes(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Add what the gateway answers to the document (a postprocessing hook of drf-spectacular)."""
    for route in ROUTES:
        operations = result["paths"].setdefault(route.path, {})
        for method in route.methods:
            operations[method.lower()] = describe_operation(route, method)
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
        "security": [] if route.access == "public" else [{"BearerAuth": []}, {"ApiKeyAuth": []}, {"ApiKeyQuery": []}],
        "responses": {
            "200": {"description": "What the engine answers, or Corral for its own addresses."},
            "default": {"description": "An error with a sentence; see the table of errors in the documentation."},
        },
    }
    if route.access != "public":
        operation["responses"]["401"] = {"description": "No key (`Missing API key`) or `Invalid API key`."}
    if route.body and method not in {"GET", "DELETE"}:
        operation["requestBody"] = {"content": _CONTENT[route.body]}
    return operation
