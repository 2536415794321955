"""``corral resetpassword NAME``: give a person a new password; their sessions end."""

from __future__ import annotations

from argparse import ArgumentParser

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from accounts.domain.actors import console_actor
from accounts.domain.people import find_user, set_password
from portal.passwords import read_new_password


class Command(BaseCommand):
    """Sets a password."""

    help = "Give a user a new password, asked for or read from standard input when that is not a terminal."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The user's name."""
        parser.add_argument("username")

    def handle(self, *args: object, username: str, **options: object) -> None:
        """Set the password or say what is wrong."""
        user = find_user(username)
        if user is None:
            raise CommandError(f"There is no user {username}.")
        try:
            set_password(actor=console_actor(), user=user, password=read_new_password())
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        self.stdout.write(f"{username} has a new password.")
