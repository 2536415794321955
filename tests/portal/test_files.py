"""What the repository may hold: no place of one machine, no registry's host, no unfinished work, no huge file."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.system.stack import ROOT

#: Files that may exceed the limit, each with its reason. Lock files, vendored and generated files are data.
LONG_FILES: dict[str, str] = {}
LINE_LIMIT = 500
NOT_OURS = ("static/vendor/", "requirements.lock", "requirements-test.lock")
# Written in pieces so that this file passes its own test.
FORBIDDEN = {
    "a path of one machine": re.compile("/(?:work|root)" + r"/|/home/\w+/"),
    "a package registry's host": re.compile("pypi" + r"\.org|" + "pythonhosted" + r"\.org|" + "registry" + r"\.npmjs"),
    "unfinished work": re.compile(r"\b(?:TO" + "DO|FIX" + "ME|XX" + r"X)\b"),
}


def list_files() -> list[Path]:
    """Return the files under version control, or all when there is no git."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for name in listing.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def read_text(path: Path) -> str | None:
    """Return a file's text, None for pictures and the like."""
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return None


def find_forbidden(text: str, *, is_vendored: bool = False) -> list[str]:
    """Return what a text holds that it must not."""
    return [
        f"{what}: {match[0]}"
        for what, pattern in FORBIDDEN.items()
        if (match := pattern.search(text)) and not (is_vendored and what == "unfinished work")
    ]


def test_no_file_holds_what_belongs_to_one_machine_or_is_unfinished() -> None:
    found = {}
    for path in list_files():
        name = str(path.relative_to(ROOT))
        text = read_text(path)
        if text is not None and (wrong := find_forbidden(text, is_vendored=name.startswith(NOT_OURS[0]))):
            found[name] = wrong
    assert not found


@pytest.mark.parametrize(
    "text", ["see /wo" + "rk/notes", "https://py" + "pi.org/simple", "# TO" + "DO later", "/home/an" + "na/models"]
)
def test_the_search_finds_them(text: str) -> None:
    assert find_forbidden(text)


def test_no_file_has_more_than_500_lines() -> None:
    long = {
        name: lines
        for path in list_files()
        if path.suffix in {".py", ".js", ".css", ".html", ".sh"}
        and not (name := str(path.relative_to(ROOT))).startswith(NOT_OURS)
        and (lines := len((read_text(path) or "").splitlines())) > LINE_LIMIT
        and name not in LONG_FILES
    }
    assert not long


def test_the_median_module_is_short() -> None:
    sizes = sorted(
        len(path.read_text().splitlines())
        for path in list_files()
        if path.suffix == ".py" and not {"tests", "migrations"} & set(path.parts) and path.name != "__init__.py"
    )
    assert sizes[len(sizes) // 2] < 120
