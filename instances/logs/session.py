"""One viewer of one log, whatever the wire: its follower, and the watch over its permission."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from django import db

from instances.errors import InstanceError
from instances.logs.access import Credentials, LogAccess, check_access
from instances.logs.database import run_query
from instances.logs.follower import Follower
from instances.logs.hub import LogHub, get_hub

logger = logging.getLogger(__name__)

CHECK_S = 30.0


async def follow_log(
    access: LogAccess, credentials: Credentials, deliver: Callable[[Follower], Awaitable[None]]
) -> InstanceError | None:
    """Run ``deliver`` with a follower until it returns or the permission is gone, which is returned as an error.

    The permission is asked for again every 30 s, and at once when an event says that keys or shares changed.
    """
    hub = get_hub()
    follower = hub.follow(access)
    delivery = asyncio.ensure_future(deliver(follower))
    guard = asyncio.create_task(_wait_until_refused(hub, lambda: check_access(credentials, access.instance_id)))
    try:
        await asyncio.wait({delivery, guard}, return_when=asyncio.FIRST_COMPLETED)
        if delivery.done():
            delivery.result()
            return None
        return guard.result()
    finally:
        delivery.cancel()
        guard.cancel()
        await asyncio.gather(delivery, guard, return_exceptions=True)
        follower.close()


async def _wait_until_refused(hub: LogHub, check: Callable[[], None]) -> InstanceError:
    changed = asyncio.Event()
    stop_listening = hub.on_access_change(changed.set)
    try:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), CHECK_S)
            changed.clear()
            try:
                await run_query(check)
            except InstanceError as error:
                return error
            except db.Error as error:
                logger.warning("a permission can't be checked, trying again: %s", error)
    finally:
        stop_listening()
