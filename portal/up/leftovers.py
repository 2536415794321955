"""Models that run without a Corral: left by a SIGTERM or by a killed worker, found by their run folders."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil

from instances.supervisor.identity import ProcessIdentity, is_same_process

#: Seconds a shim may take beyond its engine's stop time to clean up and write its state.
SHIM_GRACE_S = 5.0


def find_left_shims(data_dir: Path) -> list[int]:
    """Return the process ids of living shims of this data folder; what fails the identity check is not ours."""
    return [pid for path in sorted((data_dir / "runs").glob("*/state.json")) if (pid := read_living_shim(path))]


def read_living_shim(path: Path) -> int | None:
    """Return the shim's process id from a state file, None when it has ended or can't be trusted."""
    try:
        state: dict[str, Any] = json.loads(path.read_bytes())
        pid, token, boot_id = int(state["shim_pid"]), str(state["token"]), str(state["boot_id"])
        if sys.platform == "linux":
            started = int(state["shim_start_ticks"]) / os.sysconf("SC_CLK_TCK")
        else:
            started = float(state["shim_create_time"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # being written, or not a state file: the next `corral up` judges it
    if state.get("exited_at") is not None:
        return None
    return pid if is_same_process(ProcessIdentity(pid, started, boot_id), token) else None


def stop_shims(pids: list[int], stop_timeout_s: float) -> None:
    """Stop models through their shims: TERM, and after ``stop_timeout_s`` QUIT, with which a shim kills at once."""
    processes = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    for number, timeout_s in ((signal.SIGTERM, stop_timeout_s + SHIM_GRACE_S), (signal.SIGQUIT, SHIM_GRACE_S)):
        for process in processes:
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue
        _, processes = psutil.wait_procs(processes, timeout=timeout_s)
