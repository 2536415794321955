"""System checks of the installation as a whole."""

from __future__ import annotations

from collections.abc import Sequence

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, register


@register()
def check_connections_are_not_kept(app_configs: Sequence[AppConfig] | None, **kwargs: object) -> list[CheckMessage]:
    """Every ASGI request has its own thread, so a connection kept per thread would leak."""
    if settings.DATABASES["default"].get("CONN_MAX_AGE"):
        return [Error("CONN_MAX_AGE must be 0 under ASGI.", hint="Use the PostgreSQL pool.", id="portal.E001")]
    return []
