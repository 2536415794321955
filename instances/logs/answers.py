"""What all log routes over HTTP answer with: the headers of a stream, texts, errors; and a client that leaves."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any

from accounts.credentials import mark_wrong_key
from instances.errors import InstanceError
from instances.logs.errors import NotAuthenticated, WrongKey

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

PLAIN = "text/plain; charset=utf-8"


def read_headers(scope: Scope) -> dict[bytes, str]:
    """Return the request's headers by lower-case name; of repeated ones the last."""
    return {key.lower(): value.decode("latin-1") for key, value in scope["headers"]}


async def stream_until_gone(work: Coroutine[Any, Any, object], receive: Receive, send: Send) -> None:
    """Let the work send pieces of an answer that has begun; end the answer with it, or the work with the client."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_wait_for_disconnect(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            with contextlib.suppress(InstanceError):  # the right to go on has ended, and nothing can be added
                working.result()
            await send({"type": "http.response.body", "body": b""})
    except OSError:
        return  # the client left while something was being sent
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def start_stream(send: Send, content_type: str) -> None:
    """Begin an endless answer that no proxy or browser may collect, store or take for something else."""
    headers = [
        (b"content-type", content_type.encode()),
        (b"cache-control", b"no-cache, no-transform"),
        (b"x-accel-buffering", b"no"),
        (b"x-content-type-options", b"nosniff"),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": True})


async def send_piece(send: Send, text: str) -> None:
    """Send the next piece; waits for a client that reads slowly."""
    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})


async def send_whole(
    send: Send, text: str, *, status: int = 200, content_type: str = PLAIN, headers: Headers | None = None
) -> None:
    """Send a complete answer."""
    body = text.encode()
    fields = [
        (b"content-type", content_type.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"x-content-type-options", b"nosniff"),
        *(headers or []),
    ]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def send_error(scope: Scope, send: Send, error: InstanceError, *, status: int | None = None) -> None:
    """Send an error in llamactl's two forms: key checks answer with an object, all else with a code and a sentence."""
    if isinstance(error, WrongKey):
        mark_wrong_key(scope)
    body: dict[str, Any] = {"error": error.code, "details": str(error)}
    if isinstance(error, NotAuthenticated):
        body = {"error": {"message": str(error), "type": error.code}}
    code = status or error.status
    headers = [(b"www-authenticate", b"Bearer")] if code == 401 else []
    await send_whole(send, json.dumps(body), status=code, content_type="application/json", headers=headers)


async def _wait_for_disconnect(receive: Receive) -> None:
    with contextlib.suppress(OSError):
        while (await receive())["type"] != "http.disconnect":
            pass
