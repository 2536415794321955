"""A link to Valkey that loses answers and delivers late."""

from __future__ import annotations

import asyncio
import contextlib
import urllib.parse
from typing import Self


class FaultyLink:
    """A TCP port in front of a Valkey's Unix socket.

    `loses_answers` carries requests on and breaks the connection instead of answering; `holds_requests` keeps them,
    even after the client has gone, until `deliver`.
    """

    def __init__(self, url: str) -> None:
        self._path = urllib.parse.urlsplit(url).path
        self.loses_answers = False
        self.holds_requests = False
        self._held: list[tuple[asyncio.StreamWriter, bytes]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.close()

    @property
    def held_count(self) -> int:
        return len(self._held)

    async def deliver(self) -> None:
        """Let what was held reach Valkey."""
        self.holds_requests = False
        for writer, data in self._held:
            writer.write(data)
            await writer.drain()
        self._held.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_unix_connection(self._path)
            self._writers += [writer, far_writer]
            answers = asyncio.create_task(self._carry_answers(far_reader, writer))
            self._tasks.add(answers)
            while data := await reader.read(65536):
                if self.holds_requests:
                    self._held.append((far_writer, data))
                else:
                    far_writer.write(data)
                    await far_writer.drain()
            if not self._held:
                far_writer.close()
        writer.close()

    async def _carry_answers(self, far_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await far_reader.read(65536):
                if self.loses_answers:
                    break
                writer.write(data)
        writer.close()
