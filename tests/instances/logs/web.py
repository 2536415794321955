"""The log applications under a real uvicorn, as the portal routes to them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any, Self

import uvicorn
from channels.layers import get_channel_layer
from channels.routing import URLRouter

from instances.consumers import websocket_urlpatterns
from instances.logs import http, root_http
from instances.logs.hub import close_hub, get_hub

websockets = URLRouter(websocket_urlpatterns)


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await websockets(scope, receive, send)
    elif scope["type"] == "http":
        part = http if http.handles(scope) else root_http
        assert part.handles(scope)
        await part.app(scope, receive, send)
    else:
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await close_hub()
                await get_channel_layer().flush()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return


class WebServer:
    """uvicorn in a thread with an event loop of its own, on a free port."""

    def __init__(self) -> None:
        config = uvicorn.Config(
            application,
            port=0,
            log_level="error",
            ws="websockets-sansio",
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=2,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.port = 0

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            self.loop = runner.get_loop()
            runner.run(self._server.serve())

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            self._thread.join(0.01)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.should_exit = True
        with contextlib.suppress(RuntimeError):
            self._thread.join(60)
        assert not self._thread.is_alive()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def socket_url(self, path: str) -> str:
        return f"ws://127.0.0.1:{self.port}{path}"


def count_followed_runs(server: WebServer) -> int:
    """How many runs the server's process reads now."""

    async def count() -> int:
        return len(get_hub().followed_runs)

    assert server.loop is not None
    return asyncio.run_coroutine_threadsafe(count(), server.loop).result(60)


async def stops_reading(server: WebServer) -> bool:
    """Whether the server's process reads no run any more after a while."""
    for _ in range(3000):
        if not count_followed_runs(server):
            return True
        await asyncio.sleep(0.02)
    return False
