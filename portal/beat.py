"""``corral beat``: the scheduler. It only sends messages, so it never loads the apps: less memory, faster start."""

from __future__ import annotations

import argparse
import logging.config
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from celery import Celery
from django.conf import settings as django_settings

from portal.cli import load_django_settings
from portal.env import load_settings
from portal.lifeline import wait_for_start


def run_beat(arguments: Sequence[str]) -> int:
    """Send periodic tasks until SIGTERM or SIGINT. Entries of CELERY_BEAT_SCHEDULE name their task and their queue."""
    parser = argparse.ArgumentParser(prog="corral beat", description="Run the scheduler.")
    parser.add_argument("--attached", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    settings = load_settings()
    load_django_settings()
    logging.config.dictConfig(django_settings.LOGGING)
    app = Celery("corral", fixups=[])
    app.config_from_object("django.conf:settings", namespace="CELERY")
    schedule = settings.data_dir / "run" / "beat-schedule"
    schedule.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if options.attached and not wait_for_start():
        return 0
    service = app.Beat(quiet=True, schedule=str(schedule), loglevel=settings.log_level.upper())
    signal.signal(signal.SIGTERM, end)
    service.run()
    return 0


def end(signum: int, frame: FrameType | None) -> None:
    """End on SIGTERM also while the scheduler has not installed its own handler yet."""
    sys.exit(0)
