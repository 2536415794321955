"""``corral createkey NAME --user USER``: make an API key; standard output holds the key alone, for scripts.

With ``--import`` an existing key is read from standard input, so that it appears in no list of processes.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from accounts.domain.actors import console_actor
from accounts.domain.people import find_user
from accounts.enums import KeyKind
from accounts.errors import AccountError
from instances.domain.key_requests import read_key_request
from instances.domain.keys import create_key
from instances.models import Instance


class Command(BaseCommand):
    """Makes a key and prints it once."""

    help = "Make an API key for a user and print it, this once, on standard output."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The key's name, owner, kind and life."""
        parser.add_argument("name", help="what the key is for")
        parser.add_argument("--user", required=True, help="owner of the key")
        parser.add_argument(
            "--kind", choices=KeyKind.values, help="default: as an imported key's prefix says, else inference"
        )
        parser.add_argument("--note", default="", help="more about what it is for")
        parser.add_argument("--instance", action="append", default=[], help="open this instance only; may be repeated")
        parser.add_argument(
            "--import", action="store_true", dest="is_import", help="take an existing key from standard input"
        )
        parser.add_argument("--days", type=int, help="days until the key ends; without it the key does not end")

    def handle(
        self,
        *args: object,
        name: str,
        user: str,
        kind: str | None,
        days: int | None,
        note: str,
        instance: list[str],
        is_import: bool,
        **options: object,
    ) -> None:
        """Make the key or say what is wrong."""
        owner = find_user(user)
        if owner is None:
            raise CommandError(f"There is no user {user}.")
        try:
            body: dict[str, Any] = {"name": name, "note": note, "user": user, "permission_mode": "allow_all"}
            if kind is not None:
                body["kind"] = kind
            if days is not None:
                body["expires_at"] = int((timezone.now() + timedelta(days=days)).timestamp())
            if instance:
                body |= {"permission_mode": "per_instance", "instance_ids": find_ids(instance)}
            if is_import:
                body["key"] = sys.stdin.readline().strip()
            key, plain = create_key(actor=console_actor(), values=read_key_request(body, is_new=True))
        except AccountError as error:
            raise CommandError(str(error)) from error
        except OverflowError:
            raise CommandError("--days is too large.") from None
        if is_import:
            self.stderr.write(f"Took the {key.get_kind_display().lower()} key {key} of {user} over.")
        else:
            self.stderr.write(f"Made the {key.get_kind_display().lower()} key {name} of {user}. It is shown this once.")
            self.stdout.write(plain)


def find_ids(names: list[str]) -> list[int]:
    """Return the numbers of these instances; raise CommandError for a name that none has."""
    found = dict(Instance.objects.filter(name__in=names).values_list("name", "pk"))
    if missing := [name for name in names if name not in found]:
        raise CommandError(f"There is no instance {missing[0]}.")
    return list(found.values())
