"""How routes of the management API are written."""

from __future__ import annotations

from typing import Any

from django.urls import URLPattern, path
from rest_framework.views import APIView

from accounts.api import schema  # noqa: F401  registers what the OpenAPI document says about keys


def both(route: str, view: type[APIView], name: str, **options: Any) -> list[URLPattern]:
    """Return the route without and with a slash at its end; a redirect would lose the body of a POST.

    Only the first is in the OpenAPI document.
    """
    return [
        path(route, view.as_view(**options), name=name),
        path(f"{route}/", view.as_view(**options, schema=None)),
    ]
