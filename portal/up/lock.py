"""One ``corral up`` per data folder: an flock on ``<data>/run/up.lock``, whose content is the holder's process id.

The kernel drops the lock with its holder, however that ends, so there is no stale lock to clear.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from portal.up.errors import StartError


class InstallationLock:
    """The lock of one data folder. Keep the object for as long as the lock must hold."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / "up.lock"
        self._descriptor = -1

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor >= 0

    def acquire(self) -> None:
        """Take the lock; raise StartError naming the holder when another process has it."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            holder = read_pid(self.path)
            who = f"process {holder}" if holder else "a process that is just starting"
            raise StartError(
                f"Corral already runs on the data folder {self.path.parent.parent} ({who}). "
                "Stop it with `corral down`, or set CORRAL_DATA_DIR to another folder."
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back; the file stays, so that two starters never lock two different files."""
        if self.is_held:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = -1


def find_holder(path: Path) -> int | None:
    """Return the process id of the lock's holder, 0 when it has not written it yet, None when nobody holds the lock."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return read_pid(path)
    finally:
        os.close(descriptor)
    return None


def wait_until_free(path: Path) -> None:
    """Block until nobody holds the lock."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def read_pid(path: Path) -> int:
    """Return the process id in a lock file, 0 when there is none."""
    text = path.read_text().strip()
    return int(text) if text.isdigit() else 0
