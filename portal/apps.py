"""The wiring app: system checks and commands."""

from __future__ import annotations

from django.apps import AppConfig


class PortalConfig(AppConfig):
    """Registers Corral's system checks."""

    name = "portal"

    def ready(self) -> None:
        """Import the checks and the Celery application, so that Django and every task know them."""
        from portal import celery, checks  # noqa: F401, PLC0415  registration is the purpose of the import
