"""Run a program that ends with its parent: ``python -I -S tied.py PARENT_PID PROGRAM ARGUMENTS...`` (Linux).

The embedded Valkey has no lifeline of its own, so the kernel's parent-death signal ties it to the manager. It is set
here, after the fork and before the exec, because running Python between fork and exec inside the manager is unsafe
once the manager has threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

#: <linux/prctl.h>; survives exec of a program that is not set-user-id.
PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Tie this process to its parent and become the program."""
    parent, *argv = arguments
    if ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        sys.exit("corral: the kernel refused PR_SET_PDEATHSIG")
    if os.getppid() != int(parent):
        sys.exit(0)  # the parent went before the signal was set
    os.execv(argv[0], argv)  # noqa: S606  no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
