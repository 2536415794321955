"""An engine that holds what it is asked until a test lets it go."""

from __future__ import annotations

import asyncio

import msgspec

from tests.gateway.harness import Call, Upstream


class Engine:
    """Holds every request until it is told to answer; notes how many it had at once, and in which order they came."""

    def __init__(self, upstream: Upstream) -> None:
        self.held: list[asyncio.Event] = []
        self.order: list[str] = []
        self.now = self.most = 0
        self.is_free = False
        upstream.handler = self.handle

    async def handle(self, call: Call) -> None:
        body = await call.read_body()
        if call.method == "POST":
            self.order.append(str(msgspec.json.decode(body).get("user", "")))
            self.now += 1
            self.most = max(self.most, self.now)
            finish = asyncio.Event()
            self.held.append(finish)
            try:
                if not self.is_free:
                    await finish.wait()
            finally:
                self.now -= 1
        await call.answer(b'{"ok":true}', "Content-Type: application/json")

    def finish(self) -> None:
        """Let the oldest request go."""
        self.held.pop(0).set()

    def release(self) -> None:
        """Let everything go from now on."""
        self.is_free = True
        while self.held:
            self.finish()
