"""``GET /logs``, ``/logs/stream`` and ``/logs/stream/{id}``: the log routes of llama-swap, as endless plain text.

``proxy`` is what Corral says about instances, ``upstream`` what all running instances print, the name or an alias of a
model what that one prints; without an id it is ``proxy``. Older text comes first, at most 100 KiB, unless the query has
``no-history``. A raw ASGI application in front of Django, as `instances.logs.http` is.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from django import db
from django.urls import reverse

from instances.errors import InstanceError
from instances.logs.access import Credentials, find_actor, read_query
from instances.logs.answers import (
    PLAIN,
    Receive,
    Scope,
    Send,
    read_headers,
    send_error,
    send_piece,
    send_whole,
    start_stream,
    stream_until_gone,
)
from instances.logs.cancellation import wait_briefly
from instances.logs.database import run_query
from instances.logs.errors import LogUnavailable, UnknownLogger
from instances.logs.follower import Follower
from instances.logs.frames import RawWriter
from instances.logs.hub import get_hub
from instances.logs.items import LogChunk
from instances.logs.loggers import open_model_log, open_upstream
from instances.logs.messages import MessageReader
from instances.logs.session import follow_log, run_while_allowed
from instances.logs.text import cut_history
from instances.logs.upstream import LOOK_S, PAUSE_S, UpstreamFollower

logger = logging.getLogger(__name__)

Write = Callable[[str], Awaitable[None]]
Stream = Callable[[Write], Coroutine[Any, Any, object]]
"""An opened stream: writes until it is cancelled or the caller's rights end."""

_PATH = re.compile(r"/logs(?:/|/stream(?:/(.*))?)?", re.DOTALL)


def handles(scope: Scope) -> bool:
    """Whether the request is for `app`."""
    return scope["type"] == "http" and _PATH.fullmatch(scope["path"]) is not None


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Send the messages that there are, or stream until the client leaves or its rights end."""
    match = _PATH.fullmatch(scope["path"])
    if match is None:
        raise ValueError("handles() says which requests are for this application")
    if scope["method"] not in ("GET", "HEAD"):
        await send_whole(send, "Logs can only be read: use GET.", status=405, headers=[(b"allow", b"GET, HEAD")])
        return
    is_whole = not scope["path"].startswith("/logs/stream")
    if is_whole and "text/html" in read_headers(scope).get(b"accept", ""):
        location = reverse("instance-list")
        await send_whole(
            send, f"The dashboard is at {location}", status=302, headers=[(b"location", location.encode())]
        )
        return
    credentials = Credentials.from_scope(scope)
    try:
        if is_whole:
            await send_whole(send, await run_query(MessageReader(credentials).read_history))
            return
        name = (match[1] or "").rstrip("/")
        stream = await _open(name, credentials, with_history="no-history" not in read_query(scope))
    except UnknownLogger as error:
        await send_whole(send, str(error), status=error.status)
    except InstanceError as error:
        await send_error(scope, send, error)
    except db.Error as error:
        unavailable = LogUnavailable(f"Failed to get logs: the database does not answer: {error}")
        await send_error(scope, send, unavailable, status=503)
    else:
        await start_stream(send, PLAIN)
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
        else:
            await stream_until_gone(stream(partial(send_piece, send)), receive, send)


async def _open(name: str, credentials: Credentials, *, with_history: bool) -> Stream:
    if name in ("", "proxy"):
        return await _open_messages(credentials, with_history=with_history)
    if name == "upstream":
        return await _open_upstream(credentials, with_history=with_history)
    return await _open_model(name, credentials, with_history=with_history)


async def _open_messages(credentials: Credentials, *, with_history: bool) -> Stream:
    reader = MessageReader(credentials)
    history = await run_query(reader.read_history if with_history else reader.skip_history)

    async def tell(write: Write) -> None:
        hint = asyncio.Event()
        stop_listening = get_hub().on_event(hint.set)
        try:
            text = history
            while True:
                if text:
                    await write(text)
                await asyncio.sleep(PAUSE_S)
                await wait_briefly(hint, LOOK_S)
                hint.clear()
                try:
                    text = await run_query(reader.read_new)
                except db.Error as error:
                    text = ""
                    logger.warning("messages can't be read, trying again: %s", error)
        finally:
            stop_listening()

    return lambda write: run_while_allowed(tell(write), partial(find_actor, credentials))


async def _open_upstream(credentials: Credentials, *, with_history: bool) -> Stream:
    found, beginnings, history = await run_query(open_upstream, credentials, with_history=with_history)

    async def tell(write: Write) -> None:
        if history:
            await write(history)
        await UpstreamFollower(get_hub(), credentials, write).run(found, beginnings)

    return lambda write: run_while_allowed(tell(write), partial(find_actor, credentials))


async def _open_model(name: str, credentials: Credentials, *, with_history: bool) -> Stream:
    access, segments = await run_query(open_model_log, credentials, name, with_history=with_history)
    writer = RawWriter()
    chunks = [LogChunk(segment.run_id, segment.start, segment.data) for segment in segments]
    history = await asyncio.to_thread(lambda: cut_history("".join(map(writer.write, chunks))))

    async def tell(write: Write) -> None:
        async def deliver(follower: Follower) -> None:
            if history:
                await write(history)
            while item := await follower.next():
                if text := writer.write(item):
                    await write(text)

        await follow_log(access, credentials, deliver)

    return tell
