"""What the OpenAPI document says about keys and errors; imported by the URLs so that it is registered."""

from __future__ import annotations

from typing import Any

import drf_spectacular.authentication
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse

from accounts.api.serializers import AuthenticationErrorSerializer, ErrorSerializer

MEANINGS = {
    400: "A name, a parameter or a value can't be used; `fields` names which.",
    403: "The caller may see this but not do it (`permission_denied`).",
    404: "There is no such thing, or none that the caller may see.",
    409: "It collides with what exists, runs or is allowed.",
    413: "The body is too large (`body_too_large`).",
    429: "Many wrong keys came from this address (`rate_limit_exceeded`); see `Retry-After`.",
    500: "It was tried and failed; `details` says why.",
    503: "The node's worker, or the database, does not answer (`node_unavailable`).",
}


def errors(*statuses: int) -> dict[int, OpenApiResponse]:
    """Return the documentation of error answers; 401 and 429, of wrong keys, are always among them."""
    found = {401: OpenApiResponse(AuthenticationErrorSerializer, "No key (`Missing API key`) or `Invalid API key`.")}
    return found | {status: OpenApiResponse(ErrorSerializer, MEANINGS[status]) for status in (*statuses, 429)}


def text(description: str) -> dict[tuple[int, str], OpenApiResponse]:
    """Return the documentation of a plain-text answer."""
    return {(200, "text/plain"): OpenApiResponse(OpenApiTypes.STR, description)}


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # its base has no types
    """The places for an API key."""

    target_class = "accounts.authentication.ApiKeyAuthentication"
    name = ["BearerAuth", "BasicAuth", "ApiKeyAuth", "ElevenLabsKeyAuth", "ApiKeyQuery"]

    def get_security_definition(self, auto_schema: AutoSchema) -> list[dict[str, Any]]:
        """Describe them as OpenAPI has it."""
        return [
            {"type": "http", "scheme": "bearer", "description": "A management key."},
            {"type": "http", "scheme": "basic", "description": "A key as the password; the user name does not matter."},
            {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            {"type": "apiKey", "in": "header", "name": "xi-api-key"},
            {"type": "apiKey", "in": "query", "name": "api_key"},
        ]

    def get_security_requirement(self, auto_schema: AutoSchema) -> list[dict[str, list[str]]]:
        """Any one of them will do."""
        return [{name: []} for name in self.name]


class SessionScheme(drf_spectacular.authentication.SessionScheme):  # type: ignore[no-untyped-call]  # its base has no types
    """The cookie of a signed-in person."""

    target_class = "accounts.authentication.SessionAuthentication"
