"""The web server's own uvicorn configuration around any application, in a thread, and clients that write bytes."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from portal.web import make_config

App = Callable[[Any, Any, Any], Awaitable[None]]


@contextmanager
def serve(application: Any, **changes: Any) -> Iterator[int]:
    """Serve the application as ``corral web`` would, but for changes to the configuration, and yield the port."""
    config = make_config(1, application)
    config.timeout_graceful_shutdown = 1
    for name, value in changes.items():
        setattr(config, name, value)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config.listener = listener

        def run() -> None:
            with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
                runner.run(server.serve([listener]))

        thread = threading.Thread(target=run)
        port = listener.getsockname()[1]
        thread.start()
        try:
            yield port
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()


def application(answer: App) -> App:
    """An application with a lifespan whose requests ``answer`` answers."""

    async def run(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for event in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{event}.complete"})
        else:
            await answer(scope, receive, send)

    return run


async def start(send: Any, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
    """Send the head of an answer."""
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def write(send: Any, body: bytes, *, more: bool = False) -> None:
    """Send a piece of its body."""
    await send({"type": "http.response.body", "body": body, "more_body": more})


def converse(app: App, *pieces: bytes) -> bytes:
    """Send the pieces and return all that comes until the server closes."""
    with serve(application(app)) as port, socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        for piece in pieces:
            client.sendall(piece)
        return read_all(client)


def read_all(client: socket.socket) -> bytes:
    """Read until the end."""
    answer = b""
    while data := client.recv(65536):
        answer += data
    return answer


def read_until(client: socket.socket, end: bytes) -> bytes:
    """Read until this came."""
    answer = b""
    while not answer.endswith(end):
        data = client.recv(1)
        assert data, answer
        answer += data
    return answer


def split(answer: bytes) -> tuple[list[bytes], bytes]:
    """The lines of a head without its Date, and the body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return [line for line in head.split(b"\r\n") if not line.lower().startswith(b"date:")], body
