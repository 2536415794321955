"""Where the real engines of the tests are kept, and how one gets there.

``CORRAL_TEST_CACHE`` names the folder, ``~/.cache/corral-tests`` otherwise. Each entry is a folder whose name carries
the versions it was made from. It exists for readers once its marker is written, so a broken build is never taken for
an engine; the next attempt continues in its remains. A lock file lets one process build while the others wait.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

MARKER = ".complete"
PROGRESS_S = 5.0


class EngineError(Exception):
    """An engine can't be made or found; the text says what failed and what to do."""


def find_cache() -> Path:
    """The cache folder, made when it is missing."""
    named = os.environ.get("CORRAL_TEST_CACHE")
    folder = Path(named) if named else Path.home() / ".cache" / "corral-tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def find_entry(name: str) -> Path | None:
    """The folder of a complete entry."""
    folder = find_cache() / name
    return folder if (folder / MARKER).exists() else None


def provide_entry(name: str, build: Callable[[Path], None]) -> Path:
    """The folder of an entry, built by `build(folder)` when it is not complete. Raises EngineError from `build`."""
    with _locked(find_cache() / f"{name}.lock", name):
        folder = find_cache() / name
        if not (folder / MARKER).exists():
            folder.mkdir(exist_ok=True)
            build(folder)
            (folder / MARKER).touch()
    return folder


@contextmanager
def _locked(path: Path, name: str) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"{name}: another process is building it, waiting")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def report(text: str) -> None:
    """Say how far things are."""
    print(text, flush=True)


def run_step(title: str, argv: list[str | Path], environment: Mapping[str, str] | None = None) -> None:
    """Run a program of a build and show its last line now and then. Raises EngineError with its last words."""
    report(f"{title} ...")
    started = shown = time.monotonic()
    tail: deque[str] = deque(maxlen=40)
    try:
        process = subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment
        )
    except OSError as error:
        raise EngineError(f"{title}: {argv[0]} can't be run: {error.strerror}") from error
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            tail.append(line.rstrip())
            if time.monotonic() - shown >= PROGRESS_S:
                shown = time.monotonic()
                report(f"  {shown - started:4.0f} s  {tail[-1]}")
    if process.returncode:
        raise EngineError(f"{title} failed with status {process.returncode}; its last lines:\n" + "\n".join(tail))
    report(f"  {time.monotonic() - started:4.0f} s  done")
