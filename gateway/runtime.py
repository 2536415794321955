"""The gateway's background work: keeping routes and keys current, and reporting."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Protocol

from gateway.keys import KeyCache
from gateway.report import wait_for_event
from gateway.routes import RouteTable
from gateway.structs import Snapshot

logger = logging.getLogger(__name__)

EVENT_GROUP = "events"
_ROUTE_EVENTS = frozenset(("instance.changed", "instance.deleted"))
_MIN_REFRESH_GAP_S = 0.01
_LOOK_GAP_S = 0.2
_RETRY_S = 1.0


class EventLayer(Protocol):
    """What the gateway uses of a Channels layer (Channels' "Channel Layer Specification")."""

    async def new_channel(self) -> str:
        """Subscribe a channel of this process."""

    async def group_add(self, group: str, channel: str) -> None:
        """Let the channel receive what is sent to the group."""

    async def receive(self, channel: str) -> Mapping[str, Any]:
        """The next message."""


class Runtime:
    """Owns the background tasks. `start` and `stop` may each be called once.

    `background` names other work that goes on for as long; each is cancelled and awaited by `stop`.
    """

    def __init__(
        self,
        *,
        routes: RouteTable,
        keys: KeyCache,
        load_snapshot: Callable[[], Awaitable[Snapshot]],
        events: EventLayer | None,
        background: Mapping[str, Callable[[], Coroutine[Any, Any, None]]],
        announce: Callable[[], Awaitable[None]],
        is_broker_up: Callable[[], Awaitable[bool]],
        refresh_interval_s: float,
    ) -> None:
        self.routes = routes
        self._keys = keys
        self._load_snapshot = load_snapshot
        self._events = events
        self._background = background
        self._announce = announce
        self._is_broker_up = is_broker_up
        self._refresh_interval_s = refresh_interval_s
        self._refresh_wanted = asyncio.Event()
        self._refreshing = asyncio.Lock()
        self._is_failing = False
        self._tasks: list[asyncio.Task[None]] = []
        self._look: asyncio.Task[None] | None = None
        self._looks_begun = self._looks_ended = 0
        self._looked_at = 0.0

    async def start(self) -> None:
        """Read the routes once, as well as possible, and start the tasks."""
        # Before the first reading: who drains an instance then knows that somebody may have read it as ready.
        await self._announce()
        await self._refresh()
        self._tasks = [
            asyncio.create_task(self._keep_refreshing(), name="gateway-refresh"),
            *(asyncio.create_task(work(), name=f"gateway-{name}") for name, work in self._background.items()),
        ]
        if self._events is not None:
            self._tasks.append(asyncio.create_task(self._keep_listening(self._events), name="gateway-events"))

    async def stop(self) -> None:
        """End the tasks and wait for them."""
        tasks = [*self._tasks, self._look] if self._look is not None else self._tasks
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def catch_up(self) -> None:
        """Events may have been lost: read everything again."""
        self._keys.clear()
        self._refresh_wanted.set()

    async def look_again(self) -> None:
        """Return after a reading of the routes that began later than this call.

        For a name that isn't known: it may be a moment old, its event still on the way. All who ask meanwhile share one
        reading, and readings keep a distance, so unknown names can't load the database.
        """
        wanted = self._looks_begun + 1
        while self._looks_ended < wanted:
            if self._look is None or self._look.done():
                self._look = asyncio.create_task(self._look_once(), name="gateway-look")
            await asyncio.shield(self._look)

    async def _look_once(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._looked_at + _LOOK_GAP_S - loop.time()))
        self._looks_begun += 1
        await self._refresh()
        self._looked_at = loop.time()
        self._looks_ended = self._looks_begun

    async def _keep_refreshing(self) -> None:
        while True:
            await wait_for_event(self._refresh_wanted, self._refresh_interval_s)
            self._refresh_wanted.clear()
            await self._refresh()
            # A burst of events costs a few reads, not one each.
            await asyncio.sleep(_MIN_REFRESH_GAP_S)

    async def _refresh(self) -> None:
        # One reading at a time: of two at once the older could be the last to arrive, and bring back a route whose
        # instance is being stopped, after the report that it is gone.
        async with self._refreshing:
            await self._read_routes()

    async def _read_routes(self) -> None:
        known = self.routes.by_id.keys()
        try:
            snapshot = await self._load_snapshot()
        except Exception as error:  # noqa: BLE001 - whatever the database driver raises, the last routes stay good
            if not self._is_failing:
                logger.warning("The routes can't be read; the last known ones stay in use: %s", error)
            self._is_failing = True
            return
        if self._is_failing:
            logger.info("The routes can be read again")
        self._is_failing = False
        if self.routes.replace(snapshot) and known != self.routes.by_id.keys():
            # A member's key may use the instances its owner has; those have just changed.
            self._keys.clear()

    async def _keep_listening(self, events: EventLayer) -> None:
        is_failing = False
        while True:
            try:
                if await self._is_broker_up():
                    channel = await events.new_channel()
                    await events.group_add(EVENT_GROUP, channel)
                    self.catch_up()
                    is_failing = False
                    while True:
                        self._handle_event(await events.receive(channel))
            except Exception as error:  # noqa: BLE001 - the layer passes on whatever its Redis client raises
                if not is_failing:
                    logger.warning("The gateway gets no events and reads everything regularly instead: %s", error)
                is_failing = True
            await asyncio.sleep(_RETRY_S)

    def _handle_event(self, event: Mapping[str, Any]) -> None:
        kind = event.get("type")
        if kind == "keys.changed":
            self._keys.clear()
        elif kind in _ROUTE_EVENTS:
            self._refresh_wanted.set()
