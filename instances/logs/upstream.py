"""The output of all running instances in one stream, as it comes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from django import db

from instances.logs.access import Credentials, LogAccess
from instances.logs.database import run_query
from instances.logs.frames import RawWriter
from instances.logs.hub import LogHub
from instances.logs.items import RunEnds
from instances.logs.loggers import Found, begin_newly_found, find_runs

logger = logging.getLogger(__name__)

LOOK_S = 2.0
PAUSE_S = 0.2
"""How long a look is held back after the one before it, whatever happens meanwhile."""


class UpstreamFollower:
    """Follows every instance that runs and whose log the caller may read, for one viewer.

    Which those are is looked up every two seconds, and at once when an event says that something changed; so are the
    caller's rights. A viewer that reads slowly holds up its own followers alone, and those keep positions, not queues.
    """

    def __init__(self, hub: LogHub, credentials: Credentials, send: Callable[[str], Awaitable[None]]) -> None:
        self._hub = hub
        self._credentials = credentials
        self._send = send
        self._sending = asyncio.Lock()
        self._writer = RawWriter()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._newest: dict[int, int] = {}
        """The newest known run of each instance."""
        self._done: dict[int, int] = {}
        """The newest run of each instance that needs no follower any more."""

    async def run(self, found: Found, beginnings: Mapping[int, LogAccess]) -> None:
        """Send until the task is cancelled. Raises NotAuthenticated once the caller has no rights any more.

        ``found`` is what there was when the stream was opened; runs without a beginning are over and are not told.
        """
        self._note(found)
        self._done = {run.instance.pk: run.run.id for run in found.runs if run.instance.pk not in beginnings}
        hint = asyncio.Event()
        stop_listening = self._hub.on_event(hint.set)
        try:
            for instance_id, access in beginnings.items():
                self._follow(instance_id, access)
            while True:
                await asyncio.sleep(PAUSE_S)
                await self._wait(hint)
                try:
                    await self._arrange()
                except db.Error as error:
                    logger.warning("the running instances can't be listed, trying again: %s", error)
        finally:
            stop_listening()
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait(self, hint: asyncio.Event) -> None:
        """Wait for an event, the end of a follower or the next look; a follower that failed fails the stream."""
        hinted = asyncio.ensure_future(hint.wait())
        try:
            await asyncio.wait({hinted, *self._tasks.values()}, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hinted.cancel()
        hint.clear()
        for instance_id, task in list(self._tasks.items()):
            if task.done():
                del self._tasks[instance_id]
                if not task.cancelled():
                    task.result()

    async def _arrange(self) -> None:
        """Follow what is new, and nothing that may not be read any more."""
        found = await run_query(find_runs, self._credentials, list(self._tasks))
        self._note(found)
        for instance_id in self._tasks.keys() - found.readable:
            self._tasks[instance_id].cancel()
        for run in found.runs:
            instance_id = run.instance.pk
            if instance_id in self._tasks or run.run.id <= self._done.get(instance_id, 0):
                continue
            is_successor = instance_id in self._done
            self._follow(instance_id, run.begin_at(0) if is_successor else await run_query(begin_newly_found, run))

    def _note(self, found: Found) -> None:
        self._newest |= {run.instance.pk: run.run.id for run in found.runs}

    def _follow(self, instance_id: int, access: LogAccess) -> None:
        self._tasks[instance_id] = asyncio.create_task(self._tell(instance_id, access))

    async def _tell(self, instance_id: int, access: LogAccess) -> None:
        """Send what one instance prints until its newest known run has ended."""
        follower = self._hub.follow(access)
        try:
            while item := await follower.next():
                async with self._sending:
                    if text := self._writer.write(item, instance_id):
                        await self._send(text)
                if isinstance(item, RunEnds) and item.run.id >= self._newest[instance_id]:
                    self._done[instance_id] = item.run.id
                    return
        finally:
            follower.close()
