"""Runs in containers. A container is the child of its daemon, not of the shim: it outlives a shim that was killed."""

from __future__ import annotations

import json
import logging
import subprocess
import time
from pathlib import Path
from typing import Any

from instances.supervisor.identity import read_start_time
from instances.supervisor.process import end_strays, read_state

logger = logging.getLogger(__name__)

CLEANUP_S = 20.0
ASK_S = 5.0
RETRY_S = 30.0


def end_leftovers(run_dir: Path) -> None:
    """End what is left of a run whose shim is gone: its processes, and by name the container that nobody removed."""
    end_strays(run_dir.name)
    spec = read_spec(run_dir)
    argv, state = spec.get("cleanup_argv"), read_state(run_dir)
    if not argv or state.cleaned_up or not state.could_run:
        return
    try:
        done = run_client(argv, spec, CLEANUP_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.warning("%s: what run %s left can't be cleaned up: %s", " ".join(argv), run_dir.name, error)
        return
    said = done.stderr.strip()
    logger.warning("%s: its shim had not done it (exit code %s) %s", " ".join(argv), done.returncode, said)


class ContainerProcesses:
    """The engines in the containers of this host's runs.

    Docker is asked once for each, as asking takes a process, and again only after a while where there was no answer.
    """

    def __init__(self) -> None:
        self._found: dict[Path, tuple[int, float | None]] = {}
        self._bare: set[Path] = set()
        self._ask_at: dict[Path, float] = {}

    def find(self, run_dirs: set[Path]) -> dict[Path | None, int]:
        """Return the pid of the engine for each of these runs that is in a container of this host."""
        self._bare &= run_dirs
        self._found = {
            run_dir: engine
            for run_dir, engine in self._found.items()
            if run_dir in run_dirs and engine[1] == read_start_time(engine[0])
        }
        now = time.monotonic()
        self._ask_at = {run_dir: at for run_dir, at in self._ask_at.items() if run_dir in run_dirs and at > now}
        for run_dir in run_dirs - self._bare - self._found.keys() - self._ask_at.keys():
            spec = read_spec(run_dir)
            if not spec.get("container"):
                self._bare.add(run_dir)
            elif pid := find_engine(spec):
                self._found[run_dir] = (pid, read_start_time(pid))
            else:
                self._ask_at[run_dir] = time.monotonic() + RETRY_S
                if time.monotonic() - now > ASK_S:  # a daemon that hangs does so for all of them
                    break
        return {run_dir: pid for run_dir, (pid, _) in self._found.items()}


def find_engine(spec: dict[str, Any]) -> int | None:
    """Return the pid of the engine in a run's container; None when there is none or it isn't this host's.

    The daemon may be elsewhere or in a virtual machine, and then its pids mean nothing here. So the process must be in
    a control group that is named like the container.
    """
    argv = ["docker", "container", "inspect", "--format", "{{.State.Pid}} {{.Id}}", spec["container"]]
    try:
        answer = run_client(argv, spec, ASK_S)
        pid, container = answer.stdout.split()
        groups = Path(f"/proc/{int(pid)}/cgroup").read_text()
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return int(pid) if container in groups else None


def run_client(argv: list[str], spec: dict[str, Any], timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run docker as the shim would: with the run's environment, which may say which daemon to ask."""
    return subprocess.run(
        argv,
        env=spec["environment"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout_s,
        check=False,
    )


def read_spec(run_dir: Path) -> dict[str, Any]:
    """Return what the run's shim was told; empty when the run's folder is gone."""
    try:
        content: dict[str, Any] = json.loads((run_dir / "spec.json").read_text())
    except (OSError, ValueError):
        return {}
    return content
