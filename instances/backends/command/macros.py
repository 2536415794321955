"""`${PORT}` and its like in a command line."""

from __future__ import annotations

import re
from collections.abc import Mapping

from instances.backends.base import OptionError

START_MACROS = frozenset({"PORT", "HOST", "MODEL_ID"})
STOP_MACROS = START_MACROS | {"PID"}

_MACRO = re.compile(r"\$\{([^{}]*)\}")


def check_macros(field: str, text: str, known: frozenset[str]) -> set[str]:
    """The macros `text` uses. Raises OptionError naming one that doesn't exist."""
    used = set(_MACRO.findall(text))
    for name in sorted(used - known):
        choices = ", ".join(f"${{{macro}}}" for macro in sorted(known))
        raise OptionError(field, f"there is no macro ${{{name[:60]}}}; use {choices}")
    return used


def fill_macros(text: str, values: Mapping[str, str]) -> str:
    """`text` with each macro in `values` replaced, once: a value is never searched for macros again."""
    return _MACRO.sub(lambda found: values.get(found[1], found[0]), text)
