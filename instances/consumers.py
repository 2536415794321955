"""WebSockets: the log of an instance, and the events of all that a person may see."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any, ClassVar

import msgspec
from channels.generic.websocket import AsyncWebsocketConsumer
from django import db
from django.urls import path

from accounts.credentials import mark_wrong_key
from instances.errors import InstanceError
from instances.events import GROUP
from instances.logs.access import Credentials, LogQuery, list_visible_ids, open_log, read_query
from instances.logs.cancellation import keep_cancellation, wait_briefly
from instances.logs.database import run_query
from instances.logs.errors import WrongKey
from instances.logs.follower import Follower
from instances.logs.frames import JsonWriter
from instances.logs.session import CHECK_S, follow_log

logger = logging.getLogger(__name__)

CLOSE_CODES = {400: 4400, 401: 4401, 403: 4403, 404: 4404}
TRY_AGAIN_LATER = 1013  # RFC 6455 registry: the server can't serve now


class PushConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # channels has no types
    """A socket that only sends: one task runs `push` from the opening to the end and is cancelled with the socket.

    A refusal closes the socket after it was accepted, since browsers hide everything about one that was not: 4400 bad
    parameter, 4401 no or wrong credentials, 4403 not allowed, 4404 no such instance, 1013 try again later.
    """

    _task: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Accept and start pushing; nothing is awaited here, so the socket's other messages are not held up."""
        await self.accept()
        self._task = asyncio.create_task(self._push_and_close())

    async def disconnect(self, code: int) -> None:
        """End the task."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def push(self, credentials: Credentials) -> None:
        """Send until there is nothing more; raise InstanceError to close the socket with its code."""
        raise NotImplementedError

    async def _push_and_close(self) -> None:
        with contextlib.suppress(OSError):  # the client left while something was being sent
            try:
                await self.push(Credentials.from_scope(self.scope))
                await self.close()
            except InstanceError as error:
                if isinstance(error, WrongKey):
                    mark_wrong_key(self.scope)
                await self.close(CLOSE_CODES.get(error.status, TRY_AGAIN_LATER), _shorten(str(error)))
            except OSError:
                raise
            except Exception:
                logger.exception("the socket %s failed", self.scope["path"])
                await self.close(TRY_AGAIN_LATER, "Something failed here; please connect again.")


class LogConsumer(PushConsumer):
    """``/ws/instances/<name>/logs?cursor=&lines=&stream=``: the messages of `JsonWriter`, first the older lines."""

    # Logs come from the hub: a channel of its own would cost each socket two subscriptions for nothing.
    channel_layer_alias: ClassVar[str] = "no layer"

    async def push(self, credentials: Credentials) -> None:
        """Send the log until the permission ends or the instance is deleted."""
        query = LogQuery.parse(read_query(self.scope))
        access = await run_query(open_log, credentials, self.scope["url_route"]["kwargs"]["name"], query)
        writer = JsonWriter(query.stream)

        async def deliver(follower: Follower) -> None:
            while item := await follower.next():
                await self.send(text_data=writer.write(item))

        if refusal := await follow_log(access, credentials, deliver):
            raise refusal


class EventsConsumer(PushConsumer):
    """``/ws/events``: ``instance.changed`` and ``instance.deleted`` of instances the person may see.

    ``access.changed`` says that these are others than before. The socket closes as soon as the person may see nothing
    at all any more: signed out, not active, or their key revoked.

    Events are hints: after a reconnect, and now and then, a page fetches what it shows again. Of several that wait for
    a slow client only the newest of each instance is kept.
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self._waiting: dict[int, dict[str, Any]] = {}
        self._wake = asyncio.Event()
        self._is_stale = False

    async def instance_changed(self, event: dict[str, Any]) -> None:
        """Keep the event for the task."""
        self._waiting[event["instance_id"]] = event
        self._wake.set()

    instance_deleted = instance_changed

    async def keys_changed(self, event: dict[str, Any]) -> None:
        """Ask again who this is and what it may see."""
        self._is_stale = True
        self._wake.set()

    async def push(self, credentials: Credentials) -> None:
        """Send events until the permission ends."""
        visible = await run_query(list_visible_ids, credentials)
        await keep_cancellation(self.channel_layer.group_add(GROUP, self.channel_name))
        await self.keys_changed({})  # whatever changed before the first event could arrive
        loop = asyncio.get_running_loop()
        next_check = loop.time() + CHECK_S
        try:
            while True:
                await wait_briefly(self._wake, max(0.0, next_check - loop.time()))
                if loop.time() >= next_check:  # events that keep coming must not put it off
                    next_check = loop.time() + CHECK_S
                    self._is_stale = True
                self._wake.clear()
                waiting, self._waiting = self._waiting, {}
                if self._is_stale or any(identity not in visible for identity in waiting):
                    self._is_stale = False
                    before, visible = visible, await self._look_again(credentials, visible, waiting)
                    if (before ^ visible) - waiting.keys():
                        await self.send(text_data='{"type":"access.changed"}')
                for identity, event in waiting.items():
                    if identity in visible:
                        await self.send(text_data=msgspec.json.encode(event).decode())
                visible -= {identity for identity, event in waiting.items() if event["type"] == "instance.deleted"}
        finally:
            await self.channel_layer.group_discard(GROUP, self.channel_name)

    async def _look_again(
        self, credentials: Credentials, visible: frozenset[int], waiting: dict[int, dict[str, Any]]
    ) -> frozenset[int]:
        """Return what may be seen now, and what was deleted just now and could be seen before."""
        try:
            found = await run_query(list_visible_ids, credentials)
        except db.Error as error:
            logger.warning("permissions can't be checked, trying again: %s", error)
            return visible
        deleted = {identity for identity, event in waiting.items() if event["type"] == "instance.deleted"}
        return found | (visible & deleted)


def _shorten(reason: str) -> str:
    """Cut a reason to the 123 bytes that a close frame holds (RFC 6455, 5.5)."""
    return reason.encode()[:123].decode(errors="ignore")


websocket_urlpatterns = [
    path("ws/instances/<str:name>/logs", LogConsumer.as_asgi()),
    path("ws/events", EventsConsumer.as_asgi()),
]
