"""Reading what a client asks of a key. Codes and sentences are llamactl's where it has some."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from django.utils import timezone

from accounts.domain.quotas import LARGEST
from accounts.enums import KeyKind, PermissionMode, QuotaUnit, QuotaWindow
from accounts.errors import KeyRefused

NAME_BYTES = 100
NOTE_LENGTH = 500
LAST_SECOND = 253_402_300_799
"""The end of the year 9999, beyond which databases hold no time."""
NUMBER = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)


def read_key_id(text: str) -> int:
    """Return the number of a key in an address; raise KeyRefused in llamactl's words."""
    if not NUMBER.fullmatch(text) or not -(2**63) <= int(text) < 2**63:
        raise KeyRefused("invalid_id", "Invalid key ID")
    return int(text)


def read_key_request(body: object, *, is_new: bool) -> dict[str, Any]:
    """Return the members of a request about a key as values; those that are absent stay so.

    A new key must have ``name`` and ``permission_mode``. Whether instances exist, and what the caller may give, is not
    looked at. Raises KeyRefused, for the first of several faults.
    """
    if not isinstance(body, Mapping):
        raise refuse_type("body", "The body must be a JSON object.")
    given = dict(body)
    if is_new:
        given["name"], given["permission_mode"] = given.get("name"), given.get("permission_mode")
    return {name: read(given[name]) for name, read in READERS.items() if name in given}


def refuse_type(field: str, why: str) -> KeyRefused:
    """Return the error for a value of a wrong type, which llamactl takes for a fault of the JSON."""
    return KeyRefused("invalid_json", "Invalid JSON in request body", field=field, why=why)


def read_name(value: object) -> str:
    """Return the name as it is: it need not be unique."""
    text = read_text("name", "" if value is None else value)
    if not text.strip():
        raise KeyRefused("invalid_name", "Name is required", field="name")
    if len(text.encode()) > NAME_BYTES:
        raise KeyRefused("invalid_name", "Name must be 100 characters or less", field="name")
    if not text.isprintable():
        raise KeyRefused("invalid_name", "Name must be of printable characters", field="name")
    return text


def read_text(field: str, value: object) -> str:
    """Return a text."""
    if not isinstance(value, str):
        raise refuse_type(field, f"{field} must be a text.")
    return value


def read_note(value: object) -> str:
    """Return the note, which may be empty."""
    text = read_text("note", "" if value is None else value).strip()
    if len(text) > NOTE_LENGTH:
        raise KeyRefused("invalid_note", f"Note must be {NOTE_LENGTH} characters or less", field="note")
    return text


def read_mode(value: object) -> PermissionMode:
    """Return the permission mode."""
    text = read_text("permission_mode", "" if value is None else value)
    if text not in PermissionMode.values:
        message = "Permission mode must be 'allow_all' or 'per_instance'"
        raise KeyRefused("invalid_permission_mode", message, field="permission_mode")
    return PermissionMode(text)


def read_kind(value: object) -> KeyKind:
    """Return the kind."""
    text = read_text("kind", value)
    if text not in KeyKind.values:
        raise KeyRefused("invalid_kind", "Kind must be 'inference' or 'management'", field="kind")
    return KeyKind(text)


def read_expiry(value: object) -> datetime | None:
    """Return when the key ends; None means never."""
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise refuse_type("expires_at", "expires_at must be a whole number of Unix seconds, or null for never.")
    if value > LAST_SECOND:
        message = "Expiration time must be before the year 10000; null is for never"
        raise KeyRefused("invalid_expires_at", message, field="expires_at")
    if value <= timezone.now().timestamp():
        raise KeyRefused("invalid_expires_at", "Expiration time must be in future", field="expires_at")
    return datetime.fromtimestamp(value, UTC)


def read_ids(value: object) -> list[int]:
    """Return the instances' numbers, each once."""
    if value is None:
        return []
    if not isinstance(value, list) or any(not isinstance(one, int) or isinstance(one, bool) for one in value):
        raise refuse_type("instance_ids", "instance_ids must be a list of whole numbers.")
    return list(dict.fromkeys(value))


def read_switch(field: str) -> Callable[[object], bool]:
    """Return the reader of a member that is true or false."""

    def read(value: object) -> bool:
        if not isinstance(value, bool):
            raise refuse_type(field, f"{field} must be true or false.")
        return value

    return read


def read_limits(value: object) -> dict[tuple[str, str], int]:
    """Return the key's limits by unit and window."""
    if value is None:
        return {}
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        raise refuse_type("limits", "limits must be a list of objects with unit, window and limit.")
    found: dict[tuple[str, str], int] = {}
    for one in value:
        unit, window, limit = one.get("unit"), one.get("window"), one.get("limit")
        if unit not in QuotaUnit.values or window not in QuotaWindow.values:
            message = "A limit's unit must be 'requests' or 'tokens', its window 'minute', 'day' or 'month'"
            raise KeyRefused("invalid_limits", message, field="limits")
        if not isinstance(limit, int) or isinstance(limit, bool) or not 0 <= limit <= LARGEST:
            raise KeyRefused("invalid_limits", f"A limit must be a number from 0 to {LARGEST}", field="limits")
        if (unit, window) in found:
            raise KeyRefused("invalid_limits", f"There are two limits of {unit} per {window}", field="limits")
        found[unit, window] = limit
    return found


READERS: dict[str, Callable[[object], Any]] = {
    "name": read_name,
    "permission_mode": read_mode,
    "expires_at": read_expiry,
    "instance_ids": read_ids,
    "kind": read_kind,
    "note": read_note,
    "can_start": read_switch("can_start"),
    "can_evict": read_switch("can_evict"),
    "limits": read_limits,
    "user": lambda value: read_text("user", value),
    "key": lambda value: read_text("key", value),
}
"""How each member is read; others are ignored, as llamactl does."""
