"""Ending a process tree for certain."""

from __future__ import annotations

import contextlib
import logging
import signal

import psutil

from instances.supervisor.process import Shim, ShimState, read_state

logger = logging.getLogger(__name__)

MARGIN_S = 15.0
"""How much longer than its grace a shim may take: stop command, KILL, clean-up command, last log lines."""


async def end_process(shim: Shim, grace_s: float) -> ShimState:
    """Stop a shim and all below it: TERM with grace, then KILL by the shim, then by us if the shim itself hangs."""
    descendants = list_descendants(shim.identity.pid)
    shim.send(signal.SIGTERM)
    if not await shim.wait_at_most(grace_s + MARGIN_S):
        logger.error("shim %s did not stop its engine in time; killing", shim.identity.pid)
        shim.send(signal.SIGQUIT)
        if not await shim.wait_at_most(MARGIN_S):
            descendants += list_descendants(shim.identity.pid)
            shim.send(signal.SIGKILL)
            for process in descendants:
                with contextlib.suppress(psutil.Error):
                    process.kill()  # psutil compares the create time first, so a pid given anew is safe
            await shim.wait_at_most(MARGIN_S)
    return read_state(shim.run_dir)


def list_descendants(pid: int) -> list[psutil.Process]:
    """Return the process tree below ``pid`` as it is now."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
