"""The ``corral`` command. ``manage.py`` is the same entry for Django people.

Nothing of Django is imported until a command needs it: ``corral up`` stays in memory as long as Corral runs.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from portal import __version__
from portal.settings_error import SettingsError
from portal.up.signals import hold_stop_signals

#: Commands that are functions ``module:function(arguments) -> exit code``; every other word is a Django command.
COMMANDS = {
    "up": ("portal.up.command:run_up", "Start everything on this machine; Ctrl-C stops everything, models too."),
    "down": ("portal.up.down:run_down", "Stop what `corral up` started (--keep-models leaves the models running)."),
    "web": ("portal.web:run_web", "Run the web server: pages, APIs and inference."),
    "worker": ("portal.worker:run_worker", "Run this node's worker, which keeps its instances."),
    "beat": ("portal.beat:run_beat", "Run the scheduler; one for the whole installation."),
    "settings": (
        "portal.settings_table:run_settings",
        "Show every setting and its value (--markdown: as a page).",
    ),
}
DJANGO_COMMANDS = {
    "prepare": "Check the database and Redis, apply migrations, collect static files. `corral up` does it by itself.",
    "createuser": "Make a user.",
    "createkey": "Make an API key and print it once.",
    "resetpassword": "Give a user a new password.",
}

#: Django's own commands that would go round Corral's rules, and what does the same within them.
REPLACED = {"createsuperuser": "createuser NAME --role admin", "changepassword": "resetpassword NAME"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 for success, 1 for a failure said in a sentence on stderr."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or (words[0] in {"-h", "--help", "help"} and len(words) == 1):
        print(usage())
        return 0
    if words[0] in {"-V", "--version", "version"}:
        print(f"corral {__version__}")
        return 0
    if words[0] == "up":
        hold_stop_signals()
    try:
        if words[0] in COMMANDS:
            module, function = COMMANDS[words[0]][0].split(":")
            return int(getattr(importlib.import_module(module), function)(words[1:]))
        return run_django(words)
    except SettingsError as error:
        print(f"corral: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def usage() -> str:
    """Return the list of commands."""
    width = max(len(name) for name in [*COMMANDS, *DJANGO_COMMANDS]) + 2
    lines = ["Usage: corral COMMAND [OPTIONS]", "", "Commands:"]
    lines += [f"  {name:<{width}}{text}" for name, (_, text) in COMMANDS.items()]
    lines += [f"  {name:<{width}}{text}" for name, text in DJANGO_COMMANDS.items()]
    lines += [
        "",
        "Any other command is Django's, for example `corral shell` or `corral dbshell`; `corral help --commands` lists",
        "them. Settings are CORRAL_* variables or a corral.yaml; `corral settings` shows them.",
    ]
    return "\n".join(lines)


def run_django(words: Sequence[str]) -> int:
    """Run a Django management command; raise SettingsError when the settings or the database can't be used."""
    load_django_settings()
    from django.core.management import execute_from_command_line  # noqa: PLC0415  Django is heavy: see above
    from django.db import OperationalError  # noqa: PLC0415

    from accounts.domain.origins import Origin, use_origin  # noqa: PLC0415
    from accounts.enums import AuditSource  # noqa: PLC0415

    if words[0] in REPLACED:
        raise SettingsError(f"Use `corral {REPLACED[words[0]]}`, which keeps Corral's rules and leaves an audit entry.")
    try:
        with use_origin(Origin(AuditSource.COMMAND_LINE)):
            execute_from_command_line(["corral", *words])
    except OperationalError as error:
        raise SettingsError(f"The database can't be used: {first_line(error)} (CORRAL_DATABASE_URL).") from error
    return 0


def load_django_settings() -> None:
    """Load Django's settings now, so that a mistake in them is one sentence; raise SettingsError."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
    from django.conf import settings  # noqa: PLC0415  Django is heavy: see above

    try:
        settings.configured or settings.CORRAL  # noqa: B018  the first access loads them
    except OSError as error:
        raise SettingsError(
            f"CORRAL_DATA_DIR can't be written: {error.strerror or error} ({error.filename}). "
            "Choose a folder this user may write to."
        ) from error


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, for use inside a sentence."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
