"""What the domain says, for pages."""

from __future__ import annotations

import re

FIELD = re.compile(r"[a-z_]+: (?=.)")
"""The field of the API that a message begins with; on a page the message stands beside it or speaks for itself."""


def as_sentence(error: object) -> str:
    """Return a message without the name of a field before it, what follows with a capital letter."""
    text = str(error)
    field = FIELD.match(text)
    return text[field.end()].upper() + text[field.end() + 1 :] if field else text
