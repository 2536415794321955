"""The log of one run, as the supervisor handles it: pumped to the stream while it runs, quoted when it fails."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import redis.asyncio

from instances.logs.pump import LogPump, last_lines

QUOTED_LINES = 20


class RunLog:
    """Owns the pump of one run's log."""

    def __init__(self, client: redis.asyncio.Redis, run_id: int, path: Path) -> None:
        self._path = path
        self._pump = LogPump(client, run_id, path)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to pump; continues where an earlier supervisor ended."""
        self._task = asyncio.create_task(self._pump.run(), name=f"log {self._path.stem}")

    async def last_lines(self) -> list[str]:
        """Return the newest lines, for the reason of a failure."""
        return await asyncio.to_thread(last_lines, self._path, QUOTED_LINES)

    async def close(self, *, ended: bool) -> None:
        """Stop pumping; when the run has ended, first bring the rest of the file over and mark the end."""
        if ended:
            await self._pump.finish()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
