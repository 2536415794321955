"""What a shim tells: the state file, and the facts by which a process is recognised later.

A JSON object, mode 0600, replaced by a rename:

``shim_pid``, ``child_pid``  int; ``child_pid`` is null when the backend could not be started
``shim_create_time``, ``child_create_time``  float, seconds since the epoch, equal to psutil's ``create_time()`` at that
    moment; null where /proc is missing. It moves when the clock is stepped
``shim_start_ticks``, ``child_start_ticks``  int, the same instant in clock ticks since boot (field 22 of proc(5)
    ``stat``), which never changes: the safer one to compare; null likewise
``boot_id``  str, differs after each boot
``token``  str, the run token of the spec
``started_at``  float, seconds since the epoch; null when the backend could not be started
``stop_requested``  null, "term" or "kill"
``exit_code``  int, null until the backend itself has ended; negative = ended by that signal
``exited_at``  float, null until everything is over: tree gone, clean-up run, log complete
``cleaned_up``  bool: the clean-up command has ended with 0
``error``  str or null: why the backend could not be started, or what failed in the shim
``log_lost_bytes``  int, bytes of log that could not be written in the whole run; final in the last state

Where the disk is full the file is overwritten in place instead, so a reader that meets broken JSON should read again.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys

_START_TICKS = 19  # index of starttime in the fields after the command's name


def read_stat_fields(pid: int) -> list[str]:
    """The fields of proc(5) ``stat`` after the command's name, which may itself hold spaces and brackets.

    Raises OSError when the process or /proc does not exist.
    """
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].decode("ascii").split()


def read_start_ticks(pid: int) -> int | None:
    """Clock ticks from boot to the start of the process; None when that can't be known (no process, no /proc)."""
    try:
        return int(read_stat_fields(pid)[_START_TICKS])
    except OSError:
        return None


def read_create_time(pid: int) -> float | None:
    """Start of the process in seconds since the epoch, computed as psutil does; None when that can't be known."""
    ticks = read_start_ticks(pid)
    if ticks is None:
        return None
    with open("/proc/stat", "rb") as file:
        for line in file:
            if line.startswith(b"btime"):
                return ticks / os.sysconf("SC_CLK_TCK") + float(line.split()[1])
    return None


def read_boot_id() -> str:
    """A text that differs after each boot; empty on systems that offer none."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return _read_boot_session() if sys.platform == "darwin" else ""


def _read_boot_session() -> str:
    buffer = ctypes.create_string_buffer(64)
    size = ctypes.c_size_t(len(buffer))
    status = ctypes.CDLL(None).sysctlbyname(b"kern.bootsessionuuid", buffer, ctypes.byref(size), None, 0)
    return buffer.value.decode("ascii") if status == 0 else ""


class StateFile:
    """The state file of a run; `fields` is what the next `write` puts there."""

    def __init__(self, path: str, token: str) -> None:
        self.path = path
        self.fields: dict[str, object] = {
            "shim_pid": os.getpid(),
            "shim_create_time": read_create_time(os.getpid()),
            "shim_start_ticks": read_start_ticks(os.getpid()),
            "child_pid": None,
            "child_create_time": None,
            "child_start_ticks": None,
            "boot_id": read_boot_id(),
            "token": token,
            "started_at": None,
            "stop_requested": None,
            "exit_code": None,
            "exited_at": None,
            "cleaned_up": False,
            "error": None,
            "log_lost_bytes": 0,
        }

    def write(self, **changes: object) -> bool:
        """Change fields and write the file; False when not even overwriting in place was possible."""
        self.fields.update(changes)
        content = json.dumps(self.fields, indent=1).encode() + b"\n"
        temporary = f"{self.path}.tmp"
        try:
            _write_file(temporary, content, os.O_CREAT | os.O_TRUNC)
            os.rename(temporary, self.path)
        except OSError:
            return self._overwrite(content)
        return True

    def _overwrite(self, content: bytes) -> bool:
        try:
            # Blocks the file already owns need no free space; spaces cover what is left of a longer predecessor.
            _write_file(self.path, content.ljust(os.path.getsize(self.path)), 0)
        except OSError:
            return False
        return True


def _write_file(path: str, content: bytes, flags: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | flags, 0o600)
    try:
        while content:
            content = content[os.write(descriptor, content) :]
    finally:
        os.close(descriptor)
