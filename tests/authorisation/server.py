"""The whole application under its own web server, in a thread of this process, in front of a fake engine."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Self

import uvicorn

from portal.web import make_config
from tests.authorisation.world import World
from tests.gateway.harness import Handler, Upstream


class Server:
    """`corral web` on a free port."""

    def __init__(self, application: Any, answer: Handler) -> None:
        self._application = application
        self._answer = answer
        self._loop = asyncio.new_event_loop()
        config = make_config(1, application)
        config.port = 0
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run)
        self.base_url = ""
        self.is_stale = True
        self.world = World(0)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        async with Upstream() as engine:
            engine.handler = self._answer
            self.world = World(engine.port)
            await self._server.serve()

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            self._thread.join(0.01)
        self.base_url = f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()

    def refresh_if_stale(self) -> None:
        """Make the world anew, if something was changed in it, and have the gateway see it."""
        if not self.is_stale:
            return
        self.is_stale = False
        self.world.build()
        look = self._application.gateway.runtime.look_again()
        asyncio.run_coroutine_threadsafe(look, self._loop).result(30)
