"""Names of instances in the addresses of pages."""

from __future__ import annotations

from django.urls import register_converter

RESERVED = frozenset({"new"})
"""Words that are pages themselves; an instance of such a name is reached with a tilde, which no name has."""


class InstanceNameConverter:
    """A name by the rule of ``domain/names.py``, or a reserved one behind ``~``."""

    regex = r"[A-Za-z0-9._-]{1,50}|~[A-Za-z0-9._-]{1,50}"

    def to_python(self, value: str) -> str:
        """Return the name."""
        return value.removeprefix("~")

    def to_url(self, value: str) -> str:
        """Return the name as an address has it."""
        return f"~{value}" if value in RESERVED else value


register_converter(InstanceNameConverter, "instance")
