"""Further instances for tests of several logs, and reading what a stream says."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from django.conf import settings
from django.utils import timezone

from accounts.models import User
from instances.enums import State
from instances.models import Instance, InstanceAlias, Node, Run
from tests.instances.logs.conftest import RunLog
from tests.instances.logs.web import WebServer


def make_instance(name: str, owner: User | None, *aliases: str) -> Instance:
    """Make an instance on the node of the tests."""
    made = Instance.objects.create(
        name=name,
        backend_type="command",
        owner=owner,
        node=Node.objects.get(name="main"),
        port=9100 + Instance.objects.count(),
        state=State.READY,
    )
    InstanceAlias.objects.bulk_create(InstanceAlias(instance=made, alias=alias) for alias in aliases)
    return made


def start_engine(instance: Instance) -> tuple[Run, RunLog]:
    """Make the next run of an instance and its log; the one before it has exited."""
    now = timezone.now()
    Run.objects.filter(instance=instance, exited_at=None).update(exited_at=now, exit_code=0)
    run = Run.objects.create(
        instance=instance,
        node=instance.node,
        port=instance.port,
        generation=1,
        token=os.urandom(16).hex(),
        started_at=now,
    )
    path: Path = settings.CORRAL.data_dir / "logs" / instance.name / f"{run.pk}.log"
    return run, RunLog(path)


class Reader:
    """Reads a stream's text piece by piece."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.text = ""
        self._added = 0
        self._pieces: AsyncIterator[str] | None = None

    async def read_until(self, words: str, seconds: float = 60) -> str:
        """Return all text so far once the words came, in the newest piece or at the end of what was read before."""
        self._pieces = self._pieces or self.response.aiter_text()
        try:
            async with asyncio.timeout(seconds):
                while words not in self.text[-len(words) - self._added :]:
                    piece = await anext(self._pieces)
                    self._added = len(piece)
                    self.text += piece
        except (TimeoutError, StopAsyncIteration):
            raise AssertionError(f"{words!r} is not in {self.text[-2000:]!r}") from None
        return self.text

    async def read_to_end(self, seconds: float = 60) -> str:
        """Return all text once the stream has ended properly."""
        self._pieces = self._pieces or self.response.aiter_text()
        async with asyncio.timeout(seconds):
            async for piece in self._pieces:
                self.text += piece
        return self.text


@asynccontextmanager
async def reading(web: WebServer, path: str, headers: dict[str, str]) -> AsyncIterator[Reader]:
    """Open a stream."""
    async with (
        httpx.AsyncClient(timeout=60) as browser,
        browser.stream("GET", web.url(path), headers=headers) as response,
    ):
        assert response.status_code == 200, await response.aread()
        yield Reader(response)
