"""One part of ``corral up`` as a process: started, let begin, watched, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from portal.up.output import LINE_LIMIT, Output

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Program:
    """What to run. ``stop_timeout_s`` is the time between TERM and KILL.

    ``is_attached``: the program has a lifeline (portal.lifeline); otherwise its standard input is empty.
    ``is_labelled``: its output is copied line by line behind its label; otherwise it writes to the console itself.
    Lines that hold one of ``muted`` are left out.
    """

    label: str
    argv: tuple[str, ...]
    stop_timeout_s: float
    is_attached: bool = True
    is_labelled: bool = True
    pass_fds: tuple[int, ...] = ()
    muted: tuple[str, ...] = ()


def corral_argv(*words: str) -> tuple[str, ...]:
    """Return the argument list that runs a ``corral`` command with this very Python and this very code."""
    manage = ROOT / "manage.py"
    if manage.is_file():
        return (sys.executable, "-u", str(manage), *words)
    return (sys.executable, "-u", "-P", "-m", "portal.cli", *words)


class Child:
    """A program's process, and its next one after a restart."""

    def __init__(self, program: Program, output: Output) -> None:
        self.program = program
        self.output = output
        self._process: asyncio.subprocess.Process | None = None
        self._copying: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the running process, None when there is none."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def spawn(self) -> None:
        """Start the process in a session of its own, so that a terminal's Ctrl-C reaches the manager alone."""
        program = self.program
        self._process = await asyncio.create_subprocess_exec(
            *program.argv,
            stdin=asyncio.subprocess.PIPE if program.is_attached else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if program.is_labelled else None,
            stderr=asyncio.subprocess.STDOUT if program.is_labelled else None,
            pass_fds=program.pass_fds,
            start_new_session=True,
            limit=LINE_LIMIT,
        )
        if self._process.stdout is not None:
            self._copying = asyncio.create_task(self.output.copy(program.label, self._process.stdout, program.muted))

    def release(self) -> None:
        """Let an attached program begin."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(b"\n")

    async def wait(self) -> int:
        """Wait for the end and return the exit code (negative: the signal); leaves nothing of its group behind."""
        process = self._process
        if process is None:
            return 0
        code = await process.wait()
        self.signal_group(signal.SIGKILL)
        if self._copying is not None:
            # A process outside the group may have inherited the pipe; its output is no reason to wait.
            await asyncio.wait({self._copying}, timeout=1)
            self._copying.cancel()
        return code

    async def stop(self) -> None:
        """End the process: TERM, then KILL to its whole group after the program's time."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(asyncio.shield(self.wait()), self.program.stop_timeout_s)
        except TimeoutError:
            self.output.say(f"{self.program.label} did not end within {self.program.stop_timeout_s:g} s; killing it.")
            self.kill()
            await self.wait()
        self._process = None

    def kill(self) -> None:
        """End the process and its group at once."""
        if self.pid is not None:
            self.signal_group(signal.SIGKILL)

    def signal_group(self, number: int) -> None:
        """Send a signal to what is left of the process group."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)


def describe_exit(code: int) -> str:
    """Return how a process ended, for a log line."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
