"""``python -m tests.requirements``: say what this machine lacks for the whole test suite; a failure where CI is set."""

from __future__ import annotations

import os
import shutil
import sys

from tests.postgresql import VARIABLE, find_programs

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
COMPILERS = ("c++", "g++", "clang++")


def list_missing() -> list[str]:
    """Return a sentence for each missing program."""
    missing = []
    if not os.environ.get(VARIABLE) and find_programs() is None:
        missing.append("PostgreSQL is missing: the suite runs on SQLite only.")
    if not any(shutil.which(name) for name in CHROMIUM):
        missing.append("Chromium is missing: tests marked `browser` are skipped.")
    if not any(shutil.which(name) for name in COMPILERS):
        missing.append("A C++ compiler is missing: llama-server can't be built, tests that run it are skipped.")
    return missing


def main() -> int:
    """Print what is missing; 1 when something is and nobody would notice the skips."""
    missing = list_missing()
    for sentence in missing:
        print(sentence, file=sys.stderr)
    return 1 if missing and os.environ.get("CI") else 0


if __name__ == "__main__":
    sys.exit(main())
