"""A work-around for redis-py, which may lose the cancellation of a task."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from redis.exceptions import RedisError

T = TypeVar("T")


async def keep_cancellation(answer: Awaitable[T]) -> T:
    """Wait for something that redis-py does, and raise CancelledError if the task was cancelled meanwhile.

    redis-py 8.1 drops a cancellation that arrives while it opens a connection: the command is carried out, and a task
    that reads or writes in a loop would run for ever.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        result = await answer
    except RedisError:
        if task and task.cancelling() > before:
            raise asyncio.CancelledError from None
        raise
    if task and task.cancelling() > before:
        raise asyncio.CancelledError
    return result
