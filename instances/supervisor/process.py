"""The supervisor's hold on one shim: start it, adopt it, signal it, wait for its end, read what it says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from instances.supervisor.identity import ProcessIdentity, identify, is_same_process, is_shim_of

SHIM = Path(__file__).resolve().parent.parent / "shim" / "main.py"


@dataclass(frozen=True)
class ShimState:
    """What the shim's state file says (see shim/state.py)."""

    shim_pid: int | None = None
    child_pid: int | None = None
    exit_code: int | None = None
    exited: bool = False
    error: str = ""
    stop_requested: bool = False
    could_run: bool = True
    """False when the program could not be started at all; ``error`` says why."""
    cleaned_up: bool = False
    """Whether the clean-up command did its work."""


def read_state(run_dir: Path) -> ShimState:
    """Return the shim's last word; an empty state when it has not written any (or is just writing)."""
    try:
        content = json.loads((run_dir / "state.json").read_text())
    except (OSError, ValueError):
        return ShimState()
    return ShimState(
        shim_pid=content.get("shim_pid"),
        child_pid=content.get("child_pid"),
        exit_code=content.get("exit_code"),
        exited=content.get("exited_at") is not None,
        error=content.get("error") or "",
        stop_requested=content.get("stop_requested") is not None,
        could_run=content.get("child_pid") is not None or content.get("error") is None,
        cleaned_up=bool(content.get("cleaned_up")),
    )


class Shim:
    """A living shim whose identity was checked.

    Signals go through a pidfd where the OS has it, so never to a stranger.
    """

    def __init__(
        self, identity: ProcessIdentity, token: str, run_dir: Path, child: subprocess.Popen[bytes] | None
    ) -> None:
        self.identity = identity
        self.token = token
        self.run_dir = run_dir
        self._child = child
        self._pidfd = os.pidfd_open(identity.pid) if hasattr(os, "pidfd_open") else -1

    @classmethod
    def spawn(cls, spec_path: Path, token: str) -> Shim:
        """Start a shim in a session of its own. Raises OSError when the host can't start processes."""
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-E", str(SHIM), str(spec_path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd=spec_path.parent,
        )
        identity = identify(child.pid)
        if identity is None:
            raise ProcessLookupError(f"the shim ended at once with status {child.wait()}")
        return cls(identity, token, spec_path.parent, child)

    @classmethod
    def adopt(cls, identity: ProcessIdentity, token: str, run_dir: Path) -> Shim | None:
        """Take over a shim that an earlier supervisor started; None when that process is not it or not alive."""
        try:
            shim = cls(identity, token, run_dir, None)
        except OSError:
            return None
        # Checked after the pidfd is open, so that the pid can't have been given away in between.
        if is_same_process(identity, token):
            return shim
        shim.close()
        return None

    @classmethod
    def find(cls, token: str, run_dir: Path) -> Shim | None:
        """Look for a shim of this token among all processes: the supervisor may have died before noting its pid."""
        # The shim's own word first: while it compresses a log, a child of it has the same command line.
        for pid in (read_state(run_dir).shim_pid, *psutil.pids()):
            if pid is not None and is_shim_of(pid, token) and (identity := identify(pid)):
                return cls.adopt(identity, token, run_dir)
        return None

    def is_alive(self) -> bool:
        """Whether the shim still runs."""
        if self._child is not None:
            return self._child.poll() is None
        return is_same_process(self.identity, self.token)

    async def wait(self) -> ShimState:
        """Wait for the shim's end (as often as wanted) and return its last word."""
        if self._pidfd >= 0 and self.is_alive():
            loop = asyncio.get_running_loop()
            ended = loop.create_future()
            descriptor = os.dup(self._pidfd)  # several may wait, and a descriptor can have one reader only
            loop.add_reader(descriptor, note_end, ended)
            try:
                await ended
            finally:
                loop.remove_reader(descriptor)
                os.close(descriptor)
        while self.is_alive():  # noqa: ASYNC110  where there are no pidfds, the OS tells of no event
            await asyncio.sleep(0.1)
        return read_state(self.run_dir)

    async def wait_at_most(self, timeout_s: float) -> bool:
        """Whether the shim ended within the time."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.wait(), timeout_s)
        return not self.is_alive()

    def send(self, number: signal.Signals) -> None:
        """Signal the shim: SIGTERM stops with grace, SIGQUIT kills its tree, SIGKILL takes the child along."""
        with contextlib.suppress(ProcessLookupError):
            if self._pidfd >= 0:
                signal.pidfd_send_signal(self._pidfd, number)
            elif self.is_alive():
                os.kill(self.identity.pid, number)

    def close(self) -> None:
        """Let go of the process without touching it."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


def note_end(ended: asyncio.Future[None]) -> None:
    """Mark a process as ended; the descriptor stays readable, so this is called more than once."""
    if not ended.done():
        ended.set_result(None)


def end_strays(token: str) -> int:
    """KILL processes of a run whose shim is gone, known by the token in their environment; return how many."""
    ended = 0
    for process in psutil.process_iter():
        try:
            if process.environ().get("CORRAL_RUN_TOKEN") == token:
                process.kill()
                ended += 1
        except (psutil.Error, OSError):
            continue  # gone meanwhile, or another user's, which can't be ours
    return ended
