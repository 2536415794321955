"""What the processes of a run use, all together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from instances.supervisor.identity import read_start_time

CHILDREN = Path("/proc/thread-self/children")
"""Kernels with CONFIG_PROC_CHILDREN tell the children of a thread; else all processes of the host are looked at."""


@dataclass(frozen=True)
class RunningTree:
    """A run's shim: the root of all its processes, which it keeps below itself (see shim/processes.py).

    ``run_dir`` is where the run's container can be looked up: its processes are children of the container's daemon.
    """

    instance_id: int
    pid: int
    started: float
    run_dir: Path | None = None


def read_tree(
    tree: RunningTree, gpus: Iterable[Mapping[str, Any]] = (), container_pid: int | None = None
) -> dict[str, Any] | None:
    """Sum up CPU time, memory, threads and GPU memory (``gpus`` as read); None when the run is over.

    CPU time counts children that have ended, so it never falls while the run lasts. Resident memory counts shared pages
    once for each process. ``container_pid`` is the engine in the run's container, if it has one.
    """
    started = read_start_time(tree.pid)
    if started is None or abs(started - tree.started) > 0.02:
        return None
    cpu_s, resident, threads = 0.0, 0, 0
    pids = list_tree(tree.pid) | (list_tree(container_pid) if container_pid is not None else set())
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            with process.oneshot():
                times = process.cpu_times()
                ended = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
                cpu_s += times.user + times.system + ended
                resident += process.memory_info().rss
                threads += process.num_threads()
    return {
        "cpu_seconds": round(cpu_s, 2),
        "resident_bytes": resident,
        "threads": threads,
        "processes": len(pids),
        "gpu_bytes": {
            gpu["id"]: used
            for gpu in gpus
            if (used := sum(size for pid, size in gpu["processes"].items() if pid in pids))
        },
    }


def list_tree(root: int) -> set[int]:
    """Return the process and all below it."""
    if not CHILDREN.exists():
        with contextlib.suppress(psutil.Error):
            return {root, *(child.pid for child in psutil.Process(root).children(recursive=True))}
        return {root}
    found: set[int] = set()
    left = [root]
    while left:
        pid = left.pop()
        if pid not in found:
            found.add(pid)
            left += list_children(pid)
    return found


def list_children(pid: int) -> list[int]:
    """Return the children of a process as Linux tells them; none when it has ended."""
    children: list[int] = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            # A thread may have ended since it was listed; its children are the others' then.
            with contextlib.suppress(OSError):
                children += map(int, (thread / "children").read_text().split())
    except OSError:
        return children
    return children
