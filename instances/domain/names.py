"""The rule for names of instances, groups and nodes."""

from __future__ import annotations

import re

from instances.errors import InvalidName

NAME_LENGTH = 50
NAME_RULE = re.compile(r"[a-zA-Z0-9._-]+", re.ASCII)


def find_name_fault(name: str) -> str:
    """Return what is wrong with a name, in llamactl's words where it has any, or an empty text.

    ``.`` and ``..`` are refused, because a name is also the name of a folder (llamactl took them and wrote outside).
    """
    if not name:
        return "name cannot be empty"
    if not NAME_RULE.fullmatch(name):
        return "name contains invalid characters (only alphanumeric, periods, hyphens, underscores allowed)"
    if len(name) > NAME_LENGTH:
        return f"name too long (max {NAME_LENGTH} characters)"
    if name in (".", ".."):
        return f"name cannot be {name!r}, which means a folder"
    return ""


def check_name(name: str) -> None:
    """Raise InvalidName unless the name satisfies the rule."""
    if fault := find_name_fault(name):
        raise InvalidName(fault, fields={"name": fault})
