"""The signals that stop ``corral up``: held back until somebody can answer them."""

from __future__ import annotations

import signal

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def hold_stop_signals() -> None:
    """Let the kernel keep stop signals until `release_stop_signals`.

    Python would raise KeyboardInterrupt wherever it is, and while modules are loaded that is often in code which
    swallows it: Corral would start although it was told to stop.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def release_stop_signals() -> None:
    """Let them come, those that came meanwhile at once. Children inherit what is held back, so start none before."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
