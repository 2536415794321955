"""What happens to the Corral meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable

import httpx
import psutil

from tests.system.stack import Stack

#: Seconds between two events.
PAUSES_S = (1.0, 4.0)


class Trouble:
    """Starts, stops and restarts instances, kills the worker, restarts Valkey; in an order drawn by lot."""

    def __init__(self, stack: Stack, models: list[str], seed: int) -> None:
        self.stack = stack
        self.models = models
        self.dice = random.Random(seed)  # noqa: S311  repeatable
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.api = httpx.AsyncClient(base_url=stack.api.base_url, headers=stack.api.headers, timeout=90)

    async def run(self, until: float) -> None:
        """Make trouble until the loop's time has come; each kind at least once."""
        loop = asyncio.get_running_loop()
        events: dict[str, Callable[[], Awaitable[None]]] = {
            "start": lambda: self.act("start"),
            "stop": lambda: self.act("stop"),
            "restart": lambda: self.act("restart"),
            "worker killed": self.kill_worker,
            "Valkey restarted": self.restart_valkey,
        }
        due = list(events)
        async with self.api:
            while loop.time() < until:
                name = due.pop() if due else self.dice.choices(list(events), [8, 4, 4, 1, 1])[0]
                await events[name]()
                self.done[name] += 1
                await asyncio.sleep(self.dice.uniform(*PAUSES_S))

    async def act(self, action: str) -> None:
        """Ask the API; while the worker or Valkey is away it may refuse, but in words."""
        name = self.dice.choice(self.models)
        try:
            answer = await self.api.post(f"/api/v1/instances/{name}/{action}")
            if answer.status_code >= 500:
                assert answer.status_code != 500
                assert answer.json()["error"]
        except (httpx.TransportError, ValueError, KeyError, AssertionError) as error:
            self.wrong.append(f"{action} of {name}: {type(error).__name__}: {error}")

    async def kill_worker(self) -> None:
        """SIGKILL to the worker, and with it to the supervisor; ``corral up`` starts another one."""
        (await asyncio.to_thread(self.stack.part, "worker")).kill()

    async def restart_valkey(self) -> None:
        """End Valkey; ``corral up`` starts another one."""
        valkey: psutil.Process = await asyncio.to_thread(self.stack.part, "valkey")
        valkey.terminate()
