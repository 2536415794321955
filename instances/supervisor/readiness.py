"""Asking an engine whether it serves yet."""

from __future__ import annotations

import asyncio
import contextlib

from instances.backends.base import Readiness

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
PROBE_TIMEOUT_S = 5.0


async def wait_until_ready(host: str, port: int, readiness: Readiness) -> None:
    """Return when the engine serves; ask every 50 ms at first, then ever more slowly, at the least once a second."""
    pause = FIRST_PAUSE_S
    loop = asyncio.get_running_loop()
    started = loop.time()
    while not await is_ready(host, port, readiness):
        await asyncio.sleep(pause)
        if loop.time() - started > 5:
            pause = min(pause * 1.3, LONGEST_PAUSE_S)


async def is_ready(host: str, port: int, readiness: Readiness) -> bool:
    """Whether the engine answers its health path as it should (or just accepts a connection when it has none)."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            status = await probe(host, port, readiness.path)
    except (OSError, TimeoutError, ValueError, asyncio.LimitOverrunError):
        return False
    return status is None or status in readiness.accepted_status


async def probe(host: str, port: int, path: str | None) -> int | None:
    """Send one GET and return the status, or None when no path is asked for and the port accepted the connection.

    Raises OSError when nothing listens and ValueError when the answer isn't HTTP.
    """
    reader, writer = await asyncio.open_connection(host, port, limit=2**16)
    try:
        if path is None:
            return None
        request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        writer.write(request.encode("ascii", "replace"))
        line = await reader.readline()
        words = line.split()
        if len(words) < 2 or not words[0].startswith(b"HTTP/"):
            raise ValueError(f"not HTTP: {line[:50]!r}")
        return int(words[1])
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
