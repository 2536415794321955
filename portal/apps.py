"""The wiring app: system checks and commands."""

from __future__ import annotations

from django.apps import AppConfig


class PortalConfig(AppConfig):
    """Registers Corral's system checks."""

    name = "portal"

    def ready(self) -> None:
        """Import the checks so that Django knows them."""
        from portal import checks  # noqa: F401, PLC0415  registration is the purpose of the import
