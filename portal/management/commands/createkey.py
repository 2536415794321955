"""``corral createkey NAME --user USER``: make an API key; standard output holds the key alone, for scripts."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from accounts.domain.keys import create_key
from accounts.domain.people import find_user
from accounts.enums import KeyKind
from accounts.errors import AccountError


class Command(BaseCommand):
    """Makes a key and prints it once."""

    help = "Make an API key for a user and print it, this once, on standard output."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The key's name, owner, kind and life."""
        parser.add_argument("name", help="what the key is for")
        parser.add_argument("--user", required=True, help="owner of the key")
        parser.add_argument("--kind", choices=KeyKind.values, default=KeyKind.INFERENCE.value)
        parser.add_argument("--days", type=int, help="days until the key ends; without it the key does not end")

    def handle(self, *args: object, name: str, user: str, kind: str, days: int | None, **options: object) -> None:
        """Make the key or say what is wrong."""
        owner = find_user(user)
        if owner is None:
            raise CommandError(f"There is no user {user}.")
        try:
            expires_at = None if days is None else timezone.now() + timedelta(days=days)
            _, plain = create_key(user=owner, name=name, kind=KeyKind(kind), expires_at=expires_at)
        except AccountError as error:
            raise CommandError(str(error)) from error
        except OverflowError:
            raise CommandError("--days is too large.") from None
        self.stderr.write(f"Made the {KeyKind(kind).label.lower()} key {name} of {user}. It is shown this once.")
        self.stdout.write(plain)
