"""Shortening the reason of a failure for where there is little room."""

from __future__ import annotations

import re

CAUSE = re.compile(r"error|failed|invalid", re.IGNORECASE)
"""What lines of a log say that name a cause."""


def summarize_reason(reason: str) -> str:
    """Return the reason's sentence; below it the last of its log lines that names a cause, where there is one."""
    sentence, _, rest = reason.strip().partition("\n")
    causes = [line.strip() for line in rest.splitlines() if CAUSE.search(line)]
    return f"{sentence}\n{causes[-1]}" if causes else sentence
