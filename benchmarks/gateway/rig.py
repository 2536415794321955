"""The Go program of ``benchmarks/go``: built once into a cache folder, run for upstream, yardstick and load."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.system.stack import free_port, poll

SOURCES = Path(__file__).resolve().parent.parent / "go"
USUAL_GO = "/usr/local/go/bin/go"


def build_rig() -> Path:
    """Return the built program; raises SystemExit when there is no Go. A changed source gives a new file."""
    digest = hashlib.sha256()
    for source in sorted(SOURCES.iterdir()):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "corral-benchmarks"
    program = cache / f"rig-{digest.hexdigest()[:16]}"
    if not program.exists():
        go = find_go()
        cache.mkdir(parents=True, exist_ok=True)
        fresh = program.with_name(f"{program.name}.{os.getpid()}")
        subprocess.run([go, "build", "-o", str(fresh), "."], cwd=SOURCES, check=True)
        fresh.replace(program)
    return program


def find_go() -> str:
    """Return the path of ``go``; raises SystemExit when there is none."""
    go = shutil.which("go") or shutil.which(USUAL_GO)
    if go is None:
        raise SystemExit("This benchmark compares with a Go proxy: install Go 1.22 or newer.")
    return go


def describe_go(program: Path) -> str:
    """The version of Go that built the program."""
    said = subprocess.run([find_go(), "version", str(program)], stdout=subprocess.PIPE, text=True, check=True)
    return said.stdout.strip().rsplit(" ", 1)[-1]


class Rig:
    """Runs the program."""

    def __init__(self, program: Path) -> None:
        self.program = program

    @contextmanager
    def proxy(self, upstream: str, *flags: str) -> Iterator[tuple[str, int]]:
        """Run the yardstick; yields its address and process id."""
        port = free_port()
        argv = [str(self.program), "proxy", "-address", f"127.0.0.1:{port}", "-upstream", upstream, *flags]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
        try:
            poll(lambda: is_open(port), what="the Go proxy listens")
            yield f"http://127.0.0.1:{port}", process.pid
        finally:
            process.kill()
            process.wait()

    def measure(self, *words: str) -> dict[str, Any]:
        """Run a load and return its result; raises SystemExit when an answer was wrong."""
        done = subprocess.run([str(self.program), *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True)
        result: dict[str, Any] = json.loads(done.stdout)
        if result["errors"]:
            raise SystemExit(f"rig {' '.join(words)}: {result['errors']} failed, the first: {result['first_error']}")
        return result

    @contextmanager
    def hold_streams(self, *words: str) -> Iterator[None]:
        """Keep idle streams open."""
        process = subprocess.Popen([str(self.program), "idle", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline(), "the idle streams could not be opened"
            yield
        finally:
            process.stdin.close()
            process.wait()
            process.stdout.close()


def is_open(port: int) -> bool:
    """Whether something listens on a local port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
