"""Removing from this host what runs of a deleted instance left behind."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Collection

from redis.exceptions import RedisError

from instances.domain.launch import log_file, remove_run_files
from instances.domain.names import check_name
from instances.redis import redis_client

logger = logging.getLogger(__name__)

TOKEN = re.compile(r"[0-9a-f]{32}")


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
