"""The logs that are being followed in this process: one reader for each run, one watch for each instance."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from channels.layers import get_channel_layer
from django.conf import settings
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from instances.events import GROUP
from instances.logs.access import LogAccess
from instances.logs.cancellation import keep_cancellation
from instances.logs.feed import RunFeed
from instances.logs.follower import Follower, LocalLogs
from instances.logs.watch import InstanceWatch
from instances.redis import async_redis_client

logger = logging.getLogger(__name__)

T = TypeVar("T", RunFeed, InstanceWatch)
RETRY_S = 1.0


@dataclass
class _Shared(Generic[T]):
    """Something that lives as long as somebody listens to it."""

    value: T
    task: asyncio.Task[None]


class LogHub:
    """Shares readers and watches among the followers of one event loop; see `get_hub`."""

    def __init__(self) -> None:
        self.redis = async_redis_client()
        # Readers keep their place and ask again themselves; waiting inside of a command would only delay them.
        self.redis.set_retry(Retry(NoBackoff(), 0))
        self._feeds: dict[int, _Shared[RunFeed]] = {}
        self._watches: dict[int, _Shared[InstanceWatch]] = {}
        self._access_listeners: set[Callable[[], None]] = set()
        self._event_listeners: set[Callable[[], None]] = set()
        self._events: asyncio.Task[None] | None = None

    def follow(self, access: LogAccess) -> Follower:
        """Return a follower that begins where the query asked; close it in the end."""
        follower = Follower(self, access.instance_id, LocalLogs(settings.CORRAL.node, access.folder))
        if access.begin is not None:
            follower.begin(access.runs[access.begin.run_id], access.begin.offset)
        follower.preload(access.backlog, access.runs)
        return follower

    def acquire_feed(self, run_id: int, listener: Callable[[], None]) -> RunFeed:
        """Return the reader of a run, starting it for the first listener."""
        return self._acquire(self._feeds, run_id, lambda: RunFeed(self.redis, run_id), listener)

    def release_feed(self, feed: RunFeed, listener: Callable[[], None]) -> None:
        """Stop listening; the reader ends with its last listener."""
        self._release(self._feeds, feed.run_id, listener)

    def acquire_watch(self, instance_id: int, listener: Callable[[], None]) -> InstanceWatch:
        """Return the watch of an instance, starting it for the first listener."""
        self._start_events()
        return self._acquire(self._watches, instance_id, lambda: InstanceWatch(instance_id), listener)

    def release_watch(self, watch: InstanceWatch, listener: Callable[[], None]) -> None:
        """Stop listening; the watch ends with its last listener."""
        self._release(self._watches, watch.instance_id, listener)
        self._stop_unneeded_events()

    def on_access_change(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call the listener when keys, people or shares change; the function returned ends that."""
        self._access_listeners.add(listener)
        return lambda: self._access_listeners.discard(listener)

    def on_event(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call the listener at every event about instances or rights; the function returned ends that."""
        self._event_listeners.add(listener)
        self._start_events()

        def stop() -> None:
            self._event_listeners.discard(listener)
            self._stop_unneeded_events()

        return stop

    async def close(self) -> None:
        """End all readers and the connections. For the end of the process; followers must be closed before."""
        tasks = [feed.task for feed in self._feeds.values()] + [watch.task for watch in self._watches.values()]
        tasks += [self._events] if self._events else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.redis.aclose()

    @property
    def followed_runs(self) -> list[int]:
        """Runs that have a reader now."""
        return list(self._feeds)

    def _acquire(
        self, shared: dict[int, _Shared[T]], key: int, make: Callable[[], T], listener: Callable[[], None]
    ) -> T:
        if key not in shared:
            value = make()
            shared[key] = _Shared(value, asyncio.create_task(_guard(value.run, f"{type(value).__name__} {key}")))
        value = shared[key].value
        value.listeners.add(listener)
        return value

    def _release(self, shared: dict[int, _Shared[T]], key: int, listener: Callable[[], None]) -> None:
        entry = shared.get(key)
        if entry is None:
            return
        entry.value.listeners.discard(listener)
        if not entry.value.listeners:
            entry.task.cancel()
            del shared[key]

    def _start_events(self) -> None:
        if self._events is None:
            self._events = asyncio.create_task(_guard(self._listen_to_events, "the receiver of events"))

    def _stop_unneeded_events(self) -> None:
        if not self._watches and not self._event_listeners and self._events is not None:
            self._events.cancel()
            self._events = None

    async def _listen_to_events(self) -> None:
        layer = get_channel_layer()
        while layer is not None:
            try:
                channel: str = await keep_cancellation(layer.new_channel())
                await keep_cancellation(layer.group_add(GROUP, channel))
                self._take_event({"type": "keys.changed"})  # what changed while nobody listened counts too
                try:
                    while True:
                        self._take_event(await layer.receive(channel))
                finally:
                    await layer.group_discard(GROUP, channel)
            except (RedisError, OSError) as error:
                logger.warning("events can't be received, trying again: %s", error)
                await asyncio.sleep(RETRY_S)

    def _take_event(self, event: dict[str, Any]) -> None:
        if event["type"] == "keys.changed":
            for listener in list(self._access_listeners):
                listener()
        elif watch := self._watches.get(event.get("instance_id", 0)):
            watch.value.hint()
        for listener in list(self._event_listeners):
            listener()


async def _guard(work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
    """Let no failure of a shared reader pass in silence: its followers would wait for ever."""
    try:
        await work()
    except asyncio.CancelledError:
        raise
    except Exception:
        logger.exception("%s failed", name)
        raise


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, LogHub] = WeakKeyDictionary()


def get_hub() -> LogHub:
    """Return the hub of the running event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        _hubs[loop] = LogHub()
    return _hubs[loop]


async def close_hub() -> None:
    """Close the hub of the running event loop, if there is one."""
    hub = _hubs.pop(asyncio.get_running_loop(), None)
    if hub is not None:
        await hub.close()
