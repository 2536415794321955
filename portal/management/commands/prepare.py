"""``corral prepare``: what has to be done once before web, worker and beat start; safe to repeat."""

from __future__ import annotations

from django.core.management.base import BaseCommand

from portal.preparation import prepare_installation


class Command(BaseCommand):
    """Prints a sentence for each thing done, nothing when all was ready."""

    help = "Check the database and Redis, apply migrations, collect static files, make the first people."
    requires_system_checks: list[str] = []

    def handle(self, *args: object, **options: object) -> None:
        """Prepare; SettingsError becomes exit code 1 in portal.cli."""
        for sentence in prepare_installation():
            self.stdout.write(f"corral | {sentence}")
