"""The gateway's own connection to Redis."""

from __future__ import annotations

from collections.abc import Callable

from redis.asyncio import Connection, Redis


def make_broker(redis_url: str, on_connection: Callable[[], None]) -> Redis:
    """A client that connects when it is first used and again whenever the connection was lost.

    `on_connection` is called each time: after a loss, what was published meanwhile has been missed.
    """

    async def greet(connection: Connection) -> None:
        await connection.on_connect()
        on_connection()

    return Redis.from_url(redis_url, redis_connect_func=greet)
