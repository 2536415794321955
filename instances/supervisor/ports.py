"""Whether the operating system would let an engine listen on a port."""

from __future__ import annotations

import asyncio
import socket
import time


def is_port_free(port: int) -> bool:
    """Whether a server could bind the port now, on all addresses and on loopback (either may be held by another)."""
    for host in ("0.0.0.0", "127.0.0.1"):  # noqa: S104  a test bind, closed at once
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            # As servers do: a connection in TIME_WAIT does not hold the port, a listener does.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True


async def wait_until_port_is_free(port: int, timeout_s: float) -> bool:
    """Wait until the port can be bound; False when it could not within the time."""
    deadline = time.monotonic() + timeout_s
    while not is_port_free(port):
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(0.1)
    return True
