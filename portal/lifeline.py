"""How the parts of ``corral up`` are tied to their process manager: a pipe on standard input.

The manager holds the writing end. It writes one byte when the part may begin (the part has loaded its modules by then,
while the database was being prepared), and never anything else; the end of the pipe means that the manager is gone,
however it went, so the part ends too. Unlike the kernel's parent-death signal this works on macOS as well.
"""

from __future__ import annotations

import os
import signal
import threading

STDIN = 0
#: Seconds a part may take to end by itself after the manager is gone; the web server's grace is 15.
GRACE_S = 45.0


def wait_for_start() -> bool:
    """Wait until the manager lets this process begin; then end this process (TERM) when the manager goes.

    Returns False when the manager went away before it said "begin".
    """
    if not os.read(STDIN, 1):
        return False
    threading.Thread(target=end_with_manager, name="lifeline", daemon=True).start()
    return True


def end_with_manager() -> None:
    """Wait for the end of the pipe, then ask this process to end and see to it that it does."""
    while os.read(STDIN, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(GRACE_S)
    os._exit(1)
