"""A new password for a command: from the terminal twice, one line of standard input, or made."""

from __future__ import annotations

import getpass
import secrets
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


def choose_password(*, generate: bool) -> str:
    """Return a password that is made here, of 128 random bits, or read."""
    return secrets.token_urlsafe(16) if generate else read_new_password()
