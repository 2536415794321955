"""``GET /api/v1/instances/{name}/logs?follow=true``: the growing log as plain text or as an event stream.

A raw ASGI application in front of Django, which would hold a thread for every follower. Parameters: ``lines`` (older
lines first, default 100, 0: none, -1: all), ``stream`` (stdout, stderr), ``timestamps``, ``cursor`` (go on there), and
``format=sse``, which ``Accept: text/event-stream`` asks for too. Events carry the cursor as their id, so a browser's
EventSource goes on where it was cut off (``Last-Event-ID``). Without ``follow`` the same address is Django's.
"""

from __future__ import annotations

import asyncio
import re

from django import db

from instances.errors import InstanceError
from instances.logs.access import TRUE_WORDS, Credentials, LogQuery, open_log, read_query
from instances.logs.answers import (
    PLAIN,
    Receive,
    Scope,
    Send,
    read_headers,
    send_error,
    send_piece,
    start_stream,
    stream_until_gone,
)
from instances.logs.database import run_query
from instances.logs.errors import LogUnavailable
from instances.logs.follower import Follower
from instances.logs.frames import JsonWriter, PlainWriter
from instances.logs.session import follow_log

KEEP_ALIVE_S = 15.0

_PATH = re.compile(r"/api/v1/instances/([^/]+)/logs/?")


def handles(scope: Scope) -> bool:
    """Whether the request is for `app`."""
    return (
        scope["type"] == "http"
        and scope["method"] == "GET"
        and _PATH.fullmatch(scope["path"]) is not None
        and read_query(scope).get("follow", "").lower() in TRUE_WORDS
    )


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Stream the log until the client leaves, its permission ends or the instance is deleted."""
    match = _PATH.fullmatch(scope["path"])
    if match is None:
        raise ValueError("handles() says which requests are for this application")
    name, values, credentials = match[1], read_query(scope), Credentials.from_scope(scope)
    headers = read_headers(scope)
    if last_event := headers.get(b"last-event-id", ""):
        values["cursor"] = last_event
    try:
        query = LogQuery.parse(values)
        access = await run_query(open_log, credentials, name, query)
    except InstanceError as error:
        await send_error(scope, send, error)
        return
    except db.Error as error:
        unavailable = LogUnavailable(f"Failed to get logs: the database does not answer: {error}")
        await send_error(scope, send, unavailable, status=503)
        return
    as_events = values.get("format") == "sse" or "text/event-stream" in headers.get(b"accept", "")

    async def deliver(follower: Follower) -> None:
        if as_events:
            await _send_events(follower, JsonWriter(query.stream), send)
        else:
            await _send_text(follower, PlainWriter(name, query.stream, timestamps=query.timestamps), send)

    await start_stream(send, "text/event-stream" if as_events else PLAIN)
    await stream_until_gone(follow_log(access, credentials, deliver), receive, send)


async def _send_text(follower: Follower, writer: PlainWriter, send: Send) -> None:
    while item := await follower.next():
        if text := writer.write(item):
            await send_piece(send, text)


async def _send_events(follower: Follower, writer: JsonWriter, send: Send) -> None:
    while True:
        upcoming = asyncio.ensure_future(follower.next())
        try:
            while not (await asyncio.wait({upcoming}, timeout=KEEP_ALIVE_S))[0]:
                await send_piece(send, ": keep-alive\n\n")
            item = upcoming.result()
        finally:
            upcoming.cancel()
        if item is None:
            return
        await send_piece(send, f"id: {item.cursor}\ndata: {writer.write(item)}\n\n")
