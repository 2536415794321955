"""One viewer of one log, whatever the wire: its follower, and the watch over its permission."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from django import db

from instances.errors import InstanceError
from instances.logs.access import Credentials, LogAccess, check_access
from instances.logs.cancellation import end_tasks, wait_briefly
from instances.logs.database import run_query
from instances.logs.follower import Follower
from instances.logs.hub import LogHub, get_hub

logger = logging.getLogger(__name__)

CHECK_S = 30.0


async def follow_log(
    access: LogAccess, credentials: Credentials, deliver: Callable[[Follower], Coroutine[Any, Any, None]]
) -> InstanceError | None:
    """Run ``deliver`` with a follower until it returns or the permission is gone, which is returned as an error.

    The permission is asked for again every 30 s, and at once when an event says that keys or shares changed.
    """
    follower = get_hub().follow(access)
    try:
        return await run_while_allowed(deliver(follower), lambda: check_access(credentials, access.instance_id))
    finally:
        follower.close()


async def run_while_allowed(work: Coroutine[Any, Any, None], check: Callable[[], object]) -> InstanceError | None:
    """Run the work until it returns or ``check``, asked as in `follow_log`, raises an InstanceError; return that."""
    hub = get_hub()
    working = asyncio.create_task(work)
    guard = asyncio.create_task(_wait_until_refused(hub, check))
    try:
        await asyncio.wait({working, guard}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
            return None
        return guard.result()
    finally:
        await end_tasks(working, guard)


async def _wait_until_refused(hub: LogHub, check: Callable[[], object]) -> InstanceError:
    changed = asyncio.Event()
    stop_listening = hub.on_access_change(changed.set)
    try:
        while True:
            await wait_briefly(changed, CHECK_S)
            changed.clear()
            try:
                await run_query(check)
            except InstanceError as error:
                return error
            except db.Error as error:
                logger.warning("a permission can't be checked, trying again: %s", error)
    finally:
        stop_listening()
