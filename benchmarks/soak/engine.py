"""An engine whose answers can be told apart: each names the request it belongs to, each chunk its place.

``python benchmarks/soak/engine.py --port N``. Requests are JSON objects with ``id`` and, as they like, ``delay_s``
until the answer, ``chunks``, ``interval_s`` and ``pad`` (further bytes of each chunk).
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import uvicorn

active = 0


async def serve(scope: Any, receive: Any, send: Any) -> None:
    """The ASGI application."""
    global active  # noqa: PLW0603  one number of one process
    path = scope["path"]
    if path == "/health":
        await answer(send, {"status": "ok"})
        return
    if path == "/stats":
        await answer(send, {"active": active})
        return
    active += 1
    try:
        await infer(scope, receive, send)
    finally:
        active -= 1


async def infer(scope: Any, receive: Any, send: Any) -> None:
    """Answer an inference request."""
    body = b"".join([piece async for piece in read(receive)])
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    if scope["path"] == "/v1/audio/transcriptions":
        await answer(send, {"text": hashlib.sha256(body).hexdigest(), "usage": usage})
        return
    request = json.loads(body)
    await asyncio.sleep(request.get("delay_s", 0))
    if scope["path"] == "/v1/embeddings":
        vector = {"object": "embedding", "index": 0, "embedding": [0.5, -0.5]}
        digest = hashlib.sha256(request.get("input", "").encode()).hexdigest()
        await answer(send, {"object": "list", "id": request["id"], "sha256": digest, "data": [vector], "usage": usage})
    elif request.get("stream"):
        await stream(request, receive, send)
    else:
        message = {"role": "assistant", "content": request["id"]}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        await answer(send, {"object": "chat.completion", "choices": [choice], "usage": usage})


async def stream(request: Mapping[str, Any], receive: Any, send: Any) -> None:
    """Send numbered chunks until the last, or until the client has gone."""
    gone = asyncio.ensure_future(receive())
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for number in range(request["chunks"]):
        delta = {"content": f"{request['id']}/{number}/" + "x" * request.get("pad", 0)}
        event = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta}]}
        await send({"type": "http.response.body", "body": b"data: %b\n\n" % encode(event), "more_body": True})
        await asyncio.wait({gone}, timeout=request.get("interval_s", 0))
        if gone.done():
            return
    gone.cancel()
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


async def read(receive: Any) -> AsyncIterator[bytes]:
    """The body in pieces."""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionAbortedError
        yield message.get("body", b"")
        more = message.get("more_body", False)


async def answer(send: Any, content: object) -> None:
    """Send a JSON object."""
    body = encode(content)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def encode(content: object) -> bytes:
    """JSON in bytes."""
    return json.dumps(content).encode()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(serve, port=parser.parse_args().port, lifespan="off", log_level="critical")
