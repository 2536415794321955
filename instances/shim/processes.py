"""Starting programs and finding everything they left behind.

On Linux the shim is the subreaper of its descendants: whatever forks, double-forks or makes a session of its own stays
findable by parent pid. Elsewhere the backend's process group is all that can be reached.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
from collections.abc import Callable

from instances.shim.state import read_stat_fields

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_STATE, _PARENT, _THREADS = 0, 1, 17  # indexes in the fields of proc(5) stat after the command's name

# Looked up before any fork: the child of a fork should do as little as it can.
_prctl = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None


class StartError(Exception):
    """A program could not be started; the text is the system's reason and what it is about."""


def become_subreaper() -> bool:
    """Make orphaned descendants children of this process, see prctl(2); False where that does not exist."""
    return _prctl is not None and _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def die_with_parent(parent: int) -> None:
    """Have this process killed when `parent` dies (Linux); it ends at once when `parent` is dead already."""
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def start_program(argv: list[str], environment: dict[str, str], cwd: str, stdout: int, stderr: int) -> int:
    """Start a program in a process group of its own, stdin from /dev/null; return its pid.

    `environment` is complete, and its PATH finds a name without a slash. Signals have their default dispositions; on
    Linux the program is killed when this process dies. Raises StartError when the program can't be executed or the
    folder can't be entered.
    """
    arguments = [_encode(argument) for argument in argv]
    variables = {_encode(name): _encode(value) for name, value in environment.items()}
    read_end, write_end = os.pipe()
    parent = os.getpid()
    # Until the child has its own dispositions, a signal meant for it must wait instead of reaching our handlers there.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork() or _execute(
            arguments, variables, _encode(cwd), stdout=stdout, stderr=stderr, report=write_end, parent=parent
        )
    except OSError as error:
        os.close(read_end)
        raise StartError(f"{error.strerror}: a process could not be forked for {argv[0]}") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(write_end)
    with open(read_end, "rb") as report:
        failure = report.read()
    if not failure:
        return pid
    os.waitpid(pid, 0)
    place, _, number = failure.decode("ascii").partition(" ")
    reason = os.strerror(int(number))
    if place == "cwd":
        raise StartError(f"{reason}: {cwd} (the working directory)")
    hint = " (not found in PATH)" if int(number) == errno.ENOENT and "/" not in argv[0] else ""
    raise StartError(f"{reason}: {argv[0]}{hint}")


def _execute(
    argv: list[bytes],
    environment: dict[bytes, bytes],
    cwd: bytes,
    *,
    stdout: int,
    stderr: int,
    report: int,
    parent: int,
) -> int:
    """The child's side of the fork; never returns."""
    place = "cwd"
    try:
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            _reset_signal(number)
        os.setpgid(0, 0)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        os.chdir(cwd)
        die_with_parent(parent)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        place = "exec"
        os.execvpe(argv[0], argv, environment)  # noqa: S606  (an argument list, as everywhere)
    except OSError as error:
        os.write(report, f"{place} {error.errno}".encode("ascii"))
    finally:
        os._exit(127)


def _reset_signal(number: int) -> None:
    try:
        signal.signal(number, signal.SIG_DFL)
    except OSError:
        # The C library keeps some real-time signals for itself.
        return


def _encode(text: str) -> bytes:
    # Not os.fsencode: an isolated interpreter under the C locale may have chosen ASCII.
    return text.encode("utf-8", "surrogateescape")


def list_descendants(root: int) -> list[int]:
    """Pids of every living descendant of `root`, from proc(5); zombies count only while one of their threads runs."""
    children: dict[int, list[int]] = {}
    gone = set()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            fields = read_stat_fields(int(entry))
        except OSError:
            # It ended while the list was being read.
            continue
        children.setdefault(int(fields[_PARENT]), []).append(int(entry))
        if fields[_STATE] in "ZX" and int(fields[_THREADS]) <= 1:
            gone.add(int(entry))
    found: list[int] = []
    queue = [root]
    while queue:
        offspring = children.get(queue.pop(), [])
        queue += offspring
        found += [pid for pid in offspring if pid not in gone]
    return found


class DescendantTree:
    """Everything below this process except what `helpers` names."""

    def __init__(self, helpers: Callable[[], set[int]]) -> None:
        self._helpers = helpers

    def list_alive(self) -> list[int]:
        """Pids that are still there."""
        helpers = self._helpers()
        return [pid for pid in list_descendants(os.getpid()) if pid not in helpers]

    def send(self, number: int) -> None:
        """Send a signal once to each of them."""
        for pid in self.list_alive():
            try:
                os.kill(pid, number)
            except (ProcessLookupError, PermissionError):
                # Ended meanwhile, or changed its user: a set-user-id program is beyond our reach.
                continue


class GroupTree:
    """The process group of the backend, for systems without subreapers."""

    def __init__(self, leader: int) -> None:
        self._leader = leader

    def list_alive(self) -> list[int]:
        """The leader's pid while anything of the group is there."""
        return [self._leader] if self._signal(0) else []

    def send(self, number: int) -> None:
        """Send a signal to the group."""
        self._signal(number)

    def _signal(self, number: int) -> bool:
        try:
            os.killpg(self._leader, number)
        except (ProcessLookupError, PermissionError):
            # macOS answers EPERM for a group of zombies.
            return False
        return True
