"""Telling whether a process is the one that was started: pid + start time + boot id + the run's token."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from pathlib import Path

import psutil

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class ProcessIdentity:
    """A process of one boot of one host. ``started`` is in seconds, on a clock that only this host understands."""

    pid: int
    started: float
    boot_id: str


def read_boot_id() -> str:
    """Return an id that changes with every boot of the host."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{uuid.getnode()}-{int(psutil.boot_time())}"))


def read_start_time(pid: int) -> float | None:
    """Return when the process started, or None when there is none (a zombie counts as none).

    On Linux in seconds since boot, which a change of the wall clock does not move; elsewhere psutil's create time.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        if BOOT_ID.exists():
            return None
        try:
            process = psutil.Process(pid)
            return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
        except psutil.Error:
            return None
    except (OSError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    if fields[0] in ("Z", "X"):
        return None
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def identify(pid: int) -> ProcessIdentity | None:
    """Return the identity of a living process, to be compared later with ``is_same_process``."""
    started = read_start_time(pid)
    return None if started is None else ProcessIdentity(pid, started, read_boot_id())


def is_same_process(identity: ProcessIdentity, token: str) -> bool:
    """Whether the process is alive, is the one identified, and carries the run's token on its command line."""
    if identity.boot_id != read_boot_id():
        return False
    started = read_start_time(identity.pid)
    if started is None or abs(started - identity.started) > 0.02:
        return False
    return is_shim_of(identity.pid, token)


def is_shim_of(pid: int, token: str) -> bool:
    """Whether the process was started with the spec file of the run's folder, which bears the token."""
    try:
        return any(argument.endswith(f"/{token}/spec.json") for argument in psutil.Process(pid).cmdline())
    except psutil.Error:
        return False
