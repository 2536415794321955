"""``corral down``: stop from elsewhere what ``corral up`` started."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence

from portal.env import Settings, load_settings
from portal.up.leftovers import find_left_shims, stop_shims
from portal.up.lock import find_holder, wait_until_free

#: Seconds for the web server, the scheduler, the worker and Valkey to end, beside the time models may take.
PARTS_TIMEOUT_S = 60.0


def run_down(arguments: Sequence[str]) -> int:
    """Stop Corral on this data folder, models too unless told otherwise; 0 when nothing runs afterwards."""
    parser = argparse.ArgumentParser(prog="corral down", description="Stop what `corral up` started, models too.")
    parser.add_argument("--keep-models", action="store_true", help="leave the models running for the next `corral up`")
    options = parser.parse_args(arguments)
    settings = load_settings()
    lock = settings.data_dir / "run" / "up.lock"
    pid = find_holder(lock)
    if pid is None:
        print(f"Corral is not running on the data folder {settings.data_dir}.")
    elif not stop_manager(settings, pid, stop_models=not options.keep_models):
        return 1
    left = find_left_shims(settings.data_dir)
    if left and not options.keep_models:
        stop_shims(left, settings.stop_timeout)
        print(f"Stopped {count_models(len(left))} that ran without Corral.")
    elif left:
        print(f"Left {count_models(len(left))} running; the next `corral up` takes over.")
    return 0


def stop_manager(settings: Settings, pid: int, *, stop_models: bool) -> bool:
    """Tell the manager to stop and wait until it has; return whether it did."""
    run_dir = settings.data_dir / "run"
    if pid == 0:
        print("corral: Corral is just starting on this data folder. Try again in a second.", file=sys.stderr)
        return False
    try:
        if stop_models:
            (run_dir / "stop-models").touch()
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it ended by itself between the look at the lock and now
    except PermissionError:
        print(f"corral: Process {pid} belongs to another user; run `corral down` as that user.", file=sys.stderr)
        return False
    waiting = threading.Thread(target=wait_until_free, args=(run_dir / "up.lock",), daemon=True)
    waiting.start()
    waiting.join(settings.drain_timeout + settings.stop_timeout + PARTS_TIMEOUT_S)
    if waiting.is_alive():
        print(f"corral: Process {pid} did not end in time. End it with `kill -9 {pid}`.", file=sys.stderr)
        return False
    print(f"Stopped Corral (process {pid}).")
    return True


def count_models(number: int) -> str:
    """Return "1 model" or "3 models"."""
    return f"{number} model" if number == 1 else f"{number} models"
