"""``corral createuser NAME``: make a person. The password comes from the terminal or from standard input."""

from __future__ import annotations

from argparse import ArgumentParser

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from accounts.domain.actors import console_actor
from accounts.domain.people import create_user
from accounts.enums import Role
from portal.passwords import read_new_password


class Command(BaseCommand):
    """Makes a user with a role and a password."""

    help = "Make a user. The password is asked for, or read from standard input when that is not a terminal."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Name, role, address."""
        parser.add_argument("username")
        parser.add_argument("--role", choices=Role.values, default=Role.MEMBER.value, help="default: member")
        parser.add_argument("--email", default="")

    def handle(self, *args: object, username: str, role: str, email: str, **options: object) -> None:
        """Make the user or say what is wrong with the name or the password."""
        try:
            create_user(
                actor=console_actor(), username=username, password=read_new_password(), role=Role(role), email=email
            )
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        self.stdout.write(f"Made the {Role(role).label.lower()} {username}.")
