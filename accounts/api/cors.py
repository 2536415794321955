"""Cross-origin answers (Fetch standard, "CORS protocol"): which other sites' pages may call the management API."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpResponseBase
from django.utils.cache import patch_vary_headers
from rest_framework.request import Request

METHODS = "GET, POST, PUT, PATCH, DELETE, OPTIONS"
PREFLIGHT_S = 300


def add_cors_headers(request: Request, response: HttpResponseBase) -> None:
    """Let pages of the allowed origins read the answer. Credentials are never allowed: such a page brings its own key.

    ``*`` counts only while a key is demanded; without authentication any page on the web could read everything.
    """
    allowed = settings.CORRAL.allowed_origins
    origin = request.headers.get("Origin", "")
    if "*" in allowed and settings.CORRAL.require_management_auth:
        response.headers["Access-Control-Allow-Origin"] = "*"
    else:
        patch_vary_headers(response, ["Origin"])
        if not origin or origin not in allowed:
            return
        response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Access-Control-Expose-Headers"] = "Link, X-Total-Count"
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        response.headers["Access-Control-Allow-Methods"] = METHODS
        if wanted := request.headers.get("Access-Control-Request-Headers"):
            response.headers["Access-Control-Allow-Headers"] = wanted
        response.headers["Access-Control-Max-Age"] = str(PREFLIGHT_S)
