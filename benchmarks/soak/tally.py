"""What came of the requests."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

import httpx

#: What a request may be refused with while its instance is swapped, drained or lost.
CLEAN = (429, 502, 503)
SHOWN = 20


class WrongAnswer(Exception):
    """An answer that no client should ever get; the text says what it was."""


class Refused(Exception):
    """A clean refusal."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{status} {code}")


class BrokenOff(Exception):
    """A stream that had begun failed so that its client noticed."""


@dataclass
class Tally:
    """Counts by kind of request and outcome, and the first wrong answers in full, the same one once."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def add(self, kind: str, outcome: str) -> None:
        """Count one request."""
        self.counts[kind, outcome] += 1

    def add_wrong(self, kind: str, text: str) -> None:
        """Count one wrong answer."""
        self.add(kind, "WRONG")
        if len(self.wrong) < SHOWN and f"{kind}: {text}" not in self.wrong:
            self.wrong.append(f"{kind}: {text}")

    def total(self, outcome: str | None = None) -> int:
        """How many there were, of one outcome or of all."""
        return sum(count for (_, name), count in self.counts.items() if outcome in (None, name))


def require(condition: bool, text: str) -> None:
    """Raise WrongAnswer unless the condition holds."""
    if not condition:
        raise WrongAnswer(text)


def check_refusal(status: int, headers: httpx.Headers, body: bytes) -> None:
    """Raise Refused for a refusal with a status of CLEAN and an error in JSON, WrongAnswer for anything else."""
    said = f"{status} {headers.get('content-type')}: {body[:300]!r}"
    require(status in CLEAN, said)
    require(headers.get("content-type", "").startswith("application/json"), said)
    try:
        error = json.loads(body)["error"]
        code = str(error["code"])
        require(bool(error["message"]), said)
    except (ValueError, KeyError, TypeError) as fault:
        raise WrongAnswer(said) from fault
    raise Refused(status, code)
