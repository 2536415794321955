"""Removing from this host what runs of a deleted instance left behind."""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
import time
from collections.abc import Collection
from pathlib import Path

from django.conf import settings
from redis.exceptions import RedisError

from instances.domain.launch import log_file, remove_run_files
from instances.domain.names import check_name
from instances.logs.files import prune_logs
from instances.models import Instance, Run
from instances.redis import redis_client

logger = logging.getLogger(__name__)

TOKEN = re.compile(r"[0-9a-f]{32}")


def sweep_files(node_name: str) -> int:
    """Delete what no longer belongs to anything on this host; return how many runs' files and folders went.

    Logs beyond ``log_runs_kept`` per instance, logs of instances that are gone (their deletion may have met a broker
    that was away), and folders of runs that are over (a worker that was killed could not remove them).
    """
    corral = settings.CORRAL
    names = set(Instance.objects.filter(node__name=node_name).values_list("name", flat=True))
    tokens = set(Run.objects.filter(exited_at__isnull=True).values_list("token", flat=True))
    swept = 0
    for folder in list_folders(corral.data_dir / "logs"):
        if folder.name in names:
            swept += prune_logs(folder.name, corral.log_runs_kept)
        elif is_old(folder):
            shutil.rmtree(folder, ignore_errors=True)
            swept += 1
    for folder in list_folders(corral.data_dir / "runs"):
        if folder.name not in tokens and is_old(folder):
            remove_run_files(folder.name)
            swept += 1
    return swept


def list_folders(parent: Path) -> list[Path]:
    """Return the folders in ``parent``, none when it does not exist."""
    return [entry for entry in parent.iterdir() if entry.is_dir()] if parent.is_dir() else []


def is_old(folder: Path) -> bool:
    """Whether nothing was added for ten minutes: an instance may be in the making, its row not yet committed."""
    return time.time() - folder.stat().st_mtime > 600


def remove_files(*, name: str, run_ids: Collection[int], tokens: Collection[str]) -> None:
    """Delete the logs, folders and log streams of these runs; safe to repeat.

    Only these runs' files go, never the folder as a whole: the name may belong to a new instance by now.
    """
    check_name(name)
    folder = log_file(name, 0).parent
    wanted = {str(run_id) for run_id in run_ids}
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.partition(".log")[0] in wanted:
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # another instance of the name may have put something there
        folder.rmdir()
    for token in filter(TOKEN.fullmatch, tokens):
        remove_run_files(token)
    try:
        with redis_client() as client:
            client.delete(*(f"corral:log:{run_id}" for run_id in run_ids))
    except RedisError as error:
        logger.warning("log streams of the deleted instance %s stay until they are evicted: %s", name, error)
