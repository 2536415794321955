"""Finding, after a restart of the worker, the processes that an earlier supervisor left running."""

from __future__ import annotations

import logging
import signal
from pathlib import Path

import psutil

from instances.domain.launch import run_folder
from instances.models import Run
from instances.supervisor.identity import ProcessIdentity
from instances.supervisor.process import Shim

logger = logging.getLogger(__name__)


def find_shim(run: Run) -> Shim | None:
    """Return the living shim of a run, or None. Identity is checked; a pid alone proves nothing."""
    folder = run_folder(run.token)
    if run.shim_pid and run.shim_create_time is not None:
        identity = ProcessIdentity(run.shim_pid, run.shim_create_time, run.boot_id)
        shim = Shim.adopt(identity, run.token, folder)
        if shim is not None:
            return shim
    return Shim.find(run.token, folder)


def end_orphans(data_dir: Path, tokens: set[str]) -> int:
    """KILL shims that live in our data folder but belong to no active run; their engines die with them.

    Such a shim is left when a run was ended in the database while nobody could reach its process.
    """
    runs = data_dir / "runs"
    ended = 0
    for process in psutil.process_iter(["cmdline"]):
        for argument in process.info["cmdline"] or ():
            path = Path(argument)
            if path.name == "spec.json" and path.parent.parent == runs and path.parent.name not in tokens:
                logger.warning("ending the orphaned shim %s of run folder %s", process.pid, path.parent.name)
                try:
                    process.send_signal(signal.SIGQUIT)  # the shim kills its tree and writes its state
                    ended += 1
                except psutil.Error:
                    continue
    return ended
