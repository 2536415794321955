"""What the real llama-server says of its options, against what operators may set."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from accounts.models import User
from instances.backends.registry import get_backend
from tests.instances.domain.test_operators_limits import HARMLESS, is_refused

pytestmark = pytest.mark.engine
FLAG = re.compile(r"(?<![\w-])--?[A-Za-z][\w.-]*")
SUSPICIOUS = re.compile(
    r"\b(fname|file|path|dir|directory|folder|url|command|cmd|exec\w*|script|socket|proxy|config)\b", re.IGNORECASE
)
EXCEPTIONS = {
    "--hf-file": "a file's name in a repository, without a way out of it",
    "--offline": "forbids downloads",
    "--mmap": "how the model's own file is read",
    "--load-mode": "not catalogued, so refused",
}
"""Options whose help speaks of such things and that operators may set, and why."""


def read_help(program: Path) -> dict[tuple[str, ...], str]:
    """Return the help's options: all names of each, and its text."""
    said = subprocess.run([program, "--help"], capture_output=True, text=True, check=True, timeout=60).stdout
    found: dict[tuple[str, ...], str] = {}
    names: tuple[str, ...] = ()
    for line in said.splitlines():
        if line.startswith("-") and not line.startswith("-----"):
            head = re.split(r"\s{3,}(?=[^-\s])", line)[0] if not line.startswith("-  ") else line
            names = tuple(FLAG.findall(head))
            found[names] = line
        elif names:
            found[names] += f" {line.strip()}"
    return found


def test_each_option_that_names_a_file_an_address_or_a_command_is_refused_or_bound(
    operator: User,
    models_folder: Path,
    llama_server: Path,
) -> None:
    options = read_help(llama_server)
    assert len(options) > 150, "the help was not understood"
    faults = []
    for names, text in options.items():
        if not SUSPICIOUS.search(text) or set(names) & set(EXCEPTIONS):
            continue
        faults += [
            f"an operator may set {given}; llama-server says: {text[:160]}"
            for name in names
            for value in ("/etc/passwd", "http://there.example/x")
            for given in ({name: value}, {"extra_args": {name: value}}, {name.lstrip("-"): value})
            if not is_harmless(name) and not is_refused(operator, "llama_cpp", given)
        ]
    assert not faults, "\n".join(faults)


def is_harmless(name: str) -> bool:
    """Whether the option was looked at and found to take no file's name."""
    found = next(
        (o for o in get_backend("llama_cpp").fields if name.lstrip("-").replace("-", "_") in (o.name, *o.aliases)), None
    )
    return found is not None and found.name in HARMLESS["llama_cpp"].split()


def test_no_option_of_the_help_is_let_through_unseen(
    operator: User,
    models_folder: Path,
    llama_server: Path,
) -> None:
    """Every flag either is in the catalogue or is an administrator's."""
    known = {name for option in get_backend("llama_cpp").fields for name in (option.name, *option.aliases)}
    for names in read_help(llama_server):
        for name in names:
            if name.lstrip("-").replace("-", "_") not in known:
                assert is_refused(operator, "llama_cpp", {name: "x"}), name
