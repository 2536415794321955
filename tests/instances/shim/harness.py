"""Starts real shims on real processes, and reads what they leave."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil

from instances.shim import main

MAIN = Path(main.__file__)
DEADLINE_S = 60.0
T = TypeVar("T")
RECORD = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z) (stdout|stderr) ([FP]) (.*)", re.DOTALL)


def wait_until(probe: Callable[[], T], what: str, seconds: float = DEADLINE_S) -> T:
    """The first true answer of `probe`; fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        answer = probe()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what}"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class ShimRun:
    """One run folder and the shim in it."""

    def __init__(self, folder: Path, token: str) -> None:
        self.folder = folder
        self.token = token
        self.log_path = folder / "logs" / "7.log"
        self.state_path = folder / "state.json"
        self.process: subprocess.Popen[bytes] | None = None

    def write_spec(self, argv: list[str], **fields: Any) -> Path:
        """Write the spec file for a command."""
        spec = {
            "argv": argv,
            "environment": {"PATH": os.environ["PATH"]},
            "token": self.token,
            "cwd": str(self.folder),
            "state_path": str(self.state_path),
            "log_path": str(self.log_path),
            "grace_s": 10,
            **fields,
        }
        path = self.folder / "spec.json"
        path.write_text(json.dumps(spec))
        path.chmod(0o600)
        return path

    def start(self, argv: list[str], **fields: Any) -> None:
        """Start the shim as the supervisor does."""
        spec_path = self.write_spec(argv, **fields)
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-E", str(MAIN), str(spec_path)],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def start_python(self, code: str, **fields: Any) -> None:
        """Start a shim on a small Python program whose output is not buffered."""
        self.start([sys.executable, "-I", "-S", "-u", "-c", code], **fields)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def signal(self, number: int) -> None:
        """Send a signal to the shim."""
        os.kill(self.pid, number)

    def wait(self, seconds: float = DEADLINE_S) -> dict[str, Any]:
        """Wait for the end of the shim; its last state."""
        assert self.process is not None
        assert self.process.wait(seconds) == 0
        return self.read_state()

    def read_state(self) -> dict[str, Any]:
        """The state file, {} before it exists."""
        try:
            state: dict[str, Any] = json.loads(self.state_path.read_text())
        except FileNotFoundError:
            return {}
        return state

    def wait_for_state(self, field: str) -> Any:
        """The field of the state file once it is not null."""
        return wait_until(lambda: self.read_state().get(field), f"{field} in the state file")

    def read_records(self) -> list[tuple[str, str, str, bytes]]:
        """Complete records of the live log as (stamp, stream, F or P, text)."""
        return parse_records(self.log_path.read_bytes() if self.log_path.exists() else b"")

    def read_text(self, stream: str) -> bytes:
        """What the backend wrote to a stream, put together again from its records."""
        return join_text(self.read_records(), stream)

    def wait_for_line(self, pattern: bytes) -> re.Match[bytes]:
        """The first match in the text of the log, awaited."""

        def search() -> re.Match[bytes] | None:
            text = self.read_text("stdout") + self.read_text("stderr")
            match = re.search(pattern, text)
            assert match or not self.read_state().get("exited_at"), f"ended without {pattern!r}: {text[-2000:]!r}"
            return match

        return wait_until(search, f"{pattern!r} in the log")

    def kill_everything(self) -> None:
        """End the shim and all processes that carry the run token."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for process in psutil.process_iter():
            try:
                if process.environ().get("CORRAL_RUN_TOKEN") == self.token:
                    process.kill()
            except psutil.Error:
                continue


def parse_records(content: bytes) -> list[tuple[str, str, str, bytes]]:
    """Complete log records as (stamp, stream, F or P, text); a malformed one fails the test."""
    records = []
    for line in content.split(b"\n")[:-1]:
        match = RECORD.fullmatch(line)
        assert match, line[:200]
        stamp, stream, kind, text = match.groups()
        records.append((stamp.decode(), stream.decode(), kind.decode(), text))
    return records


def join_text(records: list[tuple[str, str, str, bytes]], stream: str) -> bytes:
    """The text of one stream, its partial records joined."""
    return b"".join(text + (b"\n" if kind == "F" else b"") for _, name, kind, text in records if name == stream)
