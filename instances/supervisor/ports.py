"""Waiting for a port."""

from __future__ import annotations

import asyncio
import time

from instances.domain.ports import is_port_free


async def wait_until_port_is_free(port: int, timeout_s: float) -> bool:
    """Wait until the port can be bound; False when it could not within the time."""
    deadline = time.monotonic() + timeout_s
    while not is_port_free(port):
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(0.1)
    return True
