"""``corral resetpassword NAME``: give a person a new password; their sessions end."""

from __future__ import annotations

from argparse import ArgumentParser

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from accounts.domain.actors import console_actor
from accounts.domain.people import find_user, set_password
from accounts.signin.second_factor import forget_second_factors
from portal.passwords import choose_password


class Command(BaseCommand):
    """Sets a password."""

    help = "Give a user a new password, asked for or read from standard input when that is not a terminal."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The user's name, and what else is lost."""
        parser.add_argument("username")
        parser.add_argument("--generate", action="store_true", help="make a password and print it on standard output")
        parser.add_argument(
            "--remove-second-factors", action="store_true", help="for who has lost app, passkeys and recovery codes"
        )

    def handle(
        self, *args: object, username: str, generate: bool, remove_second_factors: bool, **options: object
    ) -> None:
        """Set the password or say what is wrong."""
        user = find_user(username)
        if user is None:
            raise CommandError(f"There is no user {username}.")
        password = choose_password(generate=generate)
        try:
            set_password(actor=console_actor(), user=user, password=password)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        if remove_second_factors:
            forget_second_factors(actor=console_actor(), user=user)
        if generate:
            self.stderr.write(f"{username} has a new password. It is shown this once.")
            self.stdout.write(password)
        else:
            self.stdout.write(f"{username} has a new password.")
