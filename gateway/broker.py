"""The gateway's own connection to Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from redis.asyncio import Connection, Redis

T = TypeVar("T")

_CANCEL_AGAIN_S = 0.2


def make_broker(redis_url: str, on_connection: Callable[[], None] | None = None) -> Redis:
    """A client that connects when it is first used and again whenever the connection was lost.

    `on_connection` is called each time: after a loss, what was published meanwhile has been missed.
    """

    async def greet(connection: Connection) -> None:
        await connection.on_connect()
        if on_connection is not None:
            on_connection()

    return Redis.from_url(redis_url, redis_connect_func=greet)


async def end_task(task: asyncio.Task[Any]) -> None:
    """Cancel a task that talks to Redis and return when it has ended.

    redis-py 8.1 loses a cancellation that arrives while it opens a connection, so it is repeated.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=_CANCEL_AGAIN_S)


async def wait_within(task: asyncio.Task[T], timeout_s: float) -> T:
    """The result of a task that talks to Redis. Raises TimeoutError after the time, even if the task can't be ended.

    `asyncio.timeout` works by a cancellation, which redis-py may lose (see `end_task`).
    """
    try:
        done, _ = await asyncio.wait((task,), timeout=timeout_s)
    finally:
        task.cancel()
    if not done:
        raise TimeoutError(f"no answer within {timeout_s:g} seconds")
    return task.result()
