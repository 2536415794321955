"""Reading typed values out of a JSON object and collecting every fault, so that a form shows them all at once."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from instances.errors import InvalidOptions

VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
FORBIDDEN_TEXT = re.compile("[\x00\ud800-\udfff]")
"""What neither a process argument nor PostgreSQL can hold: NUL and halves of surrogate pairs."""
TEXT_BYTES = 100_000


class OptionReader:
    """Reads the values of one JSON object by name. ``null`` counts as absent.

    ``faults`` maps names to what is wrong, ``warnings`` says what was corrected; ``raise_faults`` ends the reading.
    """

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw = raw
        self.faults: dict[str, str] = {}
        self.warnings: list[str] = []

    def read_bool(self, name: str) -> bool | None:
        """Return true or false, or None when absent."""
        value = self.raw.get(name)
        if value is None or isinstance(value, bool):
            return value
        self.faults[name] = f"{name} must be true or false, not {shorten(value)}."
        return None

    def read_count(self, name: str, *, largest: int) -> int | None:
        """Return a whole number from 0 to ``largest``, or None when absent. A negative one becomes 0 with a warning."""
        value = self.raw.get(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            self.faults[name] = f"{name} must be a whole number, not {shorten(value)}."
            return None
        if value > largest:
            self.faults[name] = f"{name} must be at most {largest}."
            return None
        if value < 0:
            self.warnings.append(f"{name} was negative and became 0.")
        return max(0, value)

    def read_integer(self, name: str, smallest: int, largest: int, meaning: str) -> int | None:
        """Return a whole number between the bounds, or None when absent; ``meaning`` explains values in a fault."""
        value = self.raw.get(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            self.faults[name] = f"{name} must be a whole number ({meaning}), not {shorten(value)}."
            return None
        if not smallest <= value <= largest:
            self.faults[name] = f"{name} must be from {smallest} to {largest} ({meaning}), not {shorten(value)}."
            return None
        return value

    def read_text(self, name: str) -> str:
        """Return a text without NUL; an absent one is empty."""
        value = self.raw.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            self.faults[name] = f"{name} must be a text, not {shorten(value)}."
            return ""
        if fault := find_text_fault(value):
            self.faults[name] = f"{name} {fault}."
            return ""
        return value

    def read_texts(self, name: str) -> list[str] | None:
        """Return a list of texts, or None when absent."""
        value = self.raw.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.faults[name] = f'{name} must be a list of texts, such as ["main"].'
            return None
        return value

    def read_environment(self, name: str) -> dict[str, str]:
        """Return environment variables: valid names (POSIX, "Environment Variables"), texts as values."""
        value = self.raw.get(name)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.faults[name] = f"{name} must be an object of names and texts."
            return {}
        for key, text in value.items():
            if not VARIABLE_NAME.fullmatch(key):
                self.faults[name] = f"{name}: {shorten(key)} is not a variable's name (letters, digits, underscores)."
            elif not isinstance(text, str):
                self.faults[name] = f"{name}: {key} must be a text, not {shorten(text)}. Put it in quotes."
            elif fault := find_text_fault(text):
                self.faults[name] = f"{name}: {key} {fault}."
        return {} if name in self.faults else dict(value)

    def raise_faults(self) -> None:
        """Raise InvalidOptions with every fault found so far, if there is one."""
        if self.faults:
            raise InvalidOptions(" ".join(self.faults.values()), fields=self.faults)


def find_text_fault(text: str) -> str:
    """Return why a text can't be passed to a process, or an empty text."""
    if FORBIDDEN_TEXT.search(text):
        return "contains a NUL or an invalid character"
    if len(text.encode()) > TEXT_BYTES:
        return f"is longer than {TEXT_BYTES} bytes"
    return ""


def shorten(value: object) -> str:
    """Show a value in a sentence, as JSON, at most 60 characters of it."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
