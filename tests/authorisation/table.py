"""The table of docs/authorisation.md: what each kind of caller is answered at each address."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "authorisation.md"
CALLERS = (
    "anonymous",
    "member",
    "use",
    "operate",
    "manage",
    "operator",
    "admin",
    "inference key",
    "limited inference key",
    "expired key",
    "management key",
    "limited management key",
)
"""Columns of the table, from left to right."""
SIGNED_IN = ("member", "use", "operate", "manage", "operator", "admin")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
SOCKET = "WS"
"""Stands for a method in rows about WebSockets."""
LOGIN = "login"
"""A redirection to the page for signing in."""
BACK = "back"
"""A redirection to another page; nothing was done."""
ANY = "*"
"""Whatever the address itself says, but no 5xx."""


@dataclass(frozen=True)
class Call:
    """A method and an address, with names in braces for its variable parts; no slash at the end."""

    method: str
    route: str

    def __str__(self) -> str:
        return f"{self.method} {self.route}"


def read_table() -> dict[Call, dict[str, str]]:
    """Return what is expected, by call and caller. A row may name several calls, divided by `<br>`."""
    found: dict[Call, dict[str, str]] = {}
    for line in PAGE.read_text().splitlines():
        if not line.startswith("| `"):
            continue
        names, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert len(cells) == len(CALLERS), f"{PAGE.name}: {len(cells)} cells instead of {len(CALLERS)} in: {line}"
        for name in names.split("<br>"):
            method, _, route = name.strip().strip("`").partition(" ")
            call = Call(method, route)
            assert call not in found, f"{PAGE.name}: {call} has two rows"
            found[call] = dict(zip(CALLERS, cells, strict=True))
    return found


def write_row(calls: list[Call], cells: dict[str, str]) -> str:
    """Return a row of the table."""
    names = "<br>".join(f"`{call}`" for call in calls)
    return f"| {names} | {' | '.join(cells[caller] for caller in CALLERS)} |"
