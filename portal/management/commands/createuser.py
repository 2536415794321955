"""``corral createuser NAME``: make a person. The password comes from the terminal, from standard input, or is made."""

from __future__ import annotations

from argparse import ArgumentParser

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from accounts.domain.actors import console_actor
from accounts.domain.people import create_user
from accounts.enums import Role
from accounts.models import Team
from portal.passwords import choose_password


class Command(BaseCommand):
    """Makes a user with a role, teams and a password."""

    help = "Make a user. The password is asked for, or read from standard input when that is not a terminal."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Name, role, teams, address."""
        parser.add_argument("username")
        parser.add_argument("--role", choices=Role.values, default=Role.MEMBER.value, help="default: member")
        parser.add_argument("--team", action="append", default=[], help="a team to be in; may be repeated")
        parser.add_argument("--email", default="")
        parser.add_argument("--generate", action="store_true", help="make a password and print it on standard output")

    def handle(
        self,
        *args: object,
        username: str,
        role: str,
        team: list[str],
        email: str,
        generate: bool,
        **options: object,
    ) -> None:
        """Make the user or say what is wrong with the name, a team or the password."""
        teams = [find_team(name) for name in team]
        password = choose_password(generate=generate)
        try:
            create_user(
                actor=console_actor(), username=username, password=password, role=Role(role), email=email, teams=teams
            )
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        if generate:
            self.stderr.write(f"Made the {Role(role).label.lower()} {username}. The password is shown this once.")
            self.stdout.write(password)
        else:
            self.stdout.write(f"Made the {Role(role).label.lower()} {username}.")


def find_team(name: str) -> Team:
    """Return the team with this name; raise CommandError."""
    team = Team.objects.filter(group__name=name).select_related("group").first()
    if team is None:
        raise CommandError(f"There is no team {name}. Make it on the page of teams first.")
    return team
