"""Running the ``corral`` command in folders of its own, and seeing what it leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.system.stack import ROOT, free_port, poll


class Corral:
    """One data folder and port; commands that run on them."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.port = free_port()
        self.output = folder / "output.log"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CORRAL_")},
            "CORRAL_DATA_DIR": str(self.data_dir),
            "CORRAL_PORT": str(self.port),
            "CORRAL_CONFIG": os.environ["CORRAL_CONFIG"],
            **{f"CORRAL_{name.upper()}": value for name, value in settings.items()},
        }
        self.manager: subprocess.Popen[bytes] | None = None

    def run(self, *words: str, given: str = "", seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), *words],
            cwd=self.folder,
            env=self.environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def up(self) -> None:
        """Start ``corral up`` and wait until it says that it answers."""
        answers = "Corral answers on"
        earlier = self.said().count(answers) if self.output.exists() else 0
        with self.output.open("ab") as output:
            self.manager = subprocess.Popen(
                [sys.executable, str(ROOT / "manage.py"), "up"],
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.wait_until_said(answers, times=earlier + 1)

    def said(self) -> str:
        """Return everything that ``corral up`` printed."""
        return self.output.read_text(errors="replace")

    def wait_until_said(self, text: str, *, times: int = 1) -> None:
        """Wait until the output holds a text so many times."""

        def look() -> bool:
            assert self.manager is not None
            if self.manager.poll() is not None and self.said().count(text) < times:
                raise AssertionError(f"corral up ended with {self.manager.returncode}:\n{self.said()}")
            return self.said().count(text) >= times

        poll(look, what=f"corral up says {text!r}")

    def get(self, path: str) -> tuple[int, bytes]:
        """Fetch a page."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def parts(self) -> dict[str, psutil.Process]:
        """Return the processes of the parts by name."""
        assert self.manager is not None
        found = {}
        for process in psutil.Process(self.manager.pid).children():
            words = command_line(process)
            if words and "valkey-server" in words[0]:
                found["valkey"] = process
            found.update({name: process for name in ("web", "worker", "beat") if name in words})
        return found

    def part(self, name: str) -> psutil.Process:
        """Return the process of one part as soon as there is one."""
        return poll(lambda: self.parts().get(name), what=f"a process {name}")

    def signal(self, number: signal.Signals) -> int:
        """Send the manager a signal and return its exit code."""
        assert self.manager is not None
        self.manager.send_signal(number)
        return self.manager.wait(60)

    def left_over(self) -> list[str]:
        """Return the command lines of living processes that run on this data folder."""
        return [" ".join(words) for process in self.processes() if (words := command_line(process))]

    def processes(self) -> list[psutil.Process]:
        """Return living processes whose environment names this data folder."""
        found = []
        for process in psutil.process_iter():
            try:
                if (
                    process.environ().get("CORRAL_DATA_DIR") == str(self.data_dir)
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def wait_until_gone(self) -> None:
        """Wait until no process runs on this data folder."""
        poll(lambda: not self.left_over(), what="every process of the installation is gone")

    def end(self) -> None:
        """End what a failed test left."""
        if self.manager is not None and self.manager.poll() is None:
            self.manager.send_signal(signal.SIGINT)
            try:
                self.manager.wait(60)
            except subprocess.TimeoutExpired:
                self.manager.kill()
        for process in self.processes():
            process.kill()


def command_line(process: psutil.Process) -> list[str]:
    """Return a process's arguments, empty when it has just ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


CorralFactory = Callable[..., Corral]


def time_until(question: Callable[[], bool]) -> float:
    """Return the seconds until the question was answered with yes."""
    began = time.monotonic()
    poll(question, what="the measured thing happens")
    return time.monotonic() - began
