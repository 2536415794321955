"""``corral worker``: this node's Celery worker. Its bootstep runs the supervisor of the node's instances."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence

from portal.cli import load_django_settings
from portal.env import load_settings
from portal.lifeline import wait_for_start


def run_worker(arguments: Sequence[str]) -> int:
    """Work until SIGTERM or SIGINT; models keep running unless ``<data>/run/stop-models`` exists at the end."""
    parser = argparse.ArgumentParser(prog="corral worker", description="Run this node's worker.")
    parser.add_argument("--attached", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    settings = load_settings()
    load_django_settings()
    from celery.exceptions import SecurityWarning  # noqa: PLC0415  needs the settings loaded above

    from portal.celery import app  # noqa: PLC0415  likewise

    # Celery warns root users of pickled messages; Corral accepts JSON only.
    warnings.filterwarnings("ignore", category=SecurityWarning)

    app.loader.import_default_modules()
    if options.attached and not wait_for_start():
        return 0
    worker = app.Worker(
        hostname=f"worker@{settings.node}",
        queues=[f"node.{settings.node}", f"transfers.{settings.node}"],
        pool="threads",
        without_mingle=True,
        without_gossip=True,
        without_heartbeat=True,
        quiet=True,
        loglevel=settings.log_level.upper(),
    )
    worker.start()
    return int(worker.exitcode or 0)
