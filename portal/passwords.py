"""Reading a new password for a command: from the terminal twice, or one line of standard input."""

from __future__ import annotations

import getpass
import sys

from django.core.management.base import CommandError


def read_new_password() -> str:
    """Return the password; raise CommandError when there is none or the two entries differ."""
    if not sys.stdin.isatty():
        password = sys.stdin.readline().rstrip("\r\n")
        if not password:
            raise CommandError("No password was given on standard input.")
        return password
    password = getpass.getpass("Password: ")
    if password != getpass.getpass("Password again: "):
        raise CommandError("The two passwords differ.")
    return password
