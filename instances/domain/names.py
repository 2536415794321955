"""The rules for names: of instances, groups and nodes, and the freer one for aliases."""

from __future__ import annotations

import re

from instances.errors import InvalidName

NAME_LENGTH = 50
ALIAS_LENGTH = 200
ALIASES_LIMIT = 50
"""How many aliases one instance may have."""
MODEL_NAME_LENGTH = 1000
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


def find_alias_fault(alias: str) -> str:
    """Return what is wrong with an alias, to follow it in a sentence, or an empty text. Blanks around it are gone.

    Requests name models as other programs call them: slashes, colons, dots and blanks are fine. A comma isn't, since
    forms and settings divide lists by it.
    """
    if not alias:
        return "is empty; write a name or leave it out"
    if len(alias) > ALIAS_LENGTH:
        return f"is too long; an alias has at most {ALIAS_LENGTH} characters"
    if not alias.isprintable():
        return "contains a control character or an odd blank; remove it"
    if "," in alias:
        return "contains a comma; write two aliases, or one without it"
    return ""


def find_model_name_fault(name: str) -> str:
    """Return what is wrong with the name an engine shall get as ``model``, to follow it, or an empty text."""
    if len(name) > MODEL_NAME_LENGTH:
        return f"is too long; it has at most {MODEL_NAME_LENGTH} characters"
    return "" if name.isprintable() else "contains a control character or an odd blank; remove it"


def check_name(name: str) -> None:
    """Raise InvalidName unless the name satisfies the rule."""
    if fault := find_name_fault(name):
        raise InvalidName(fault, fields={"name": fault})
