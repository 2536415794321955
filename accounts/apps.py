"""The app of people and keys."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Users, roles and API keys."""

    name = "accounts"

    def ready(self) -> None:
        """Import what listens to people signing in and out."""
        from accounts import audit_receivers, receivers  # noqa: F401, PLC0415  registration is the purpose of the import
