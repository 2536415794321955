"""Tasks that can be cancelled, whatever redis-py and asyncio do with a cancellation."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import Any, TypeVar

from redis.exceptions import RedisError

T = TypeVar("T")
AGAIN_S = 1.0
"""How long a cancelled task may take before it is cancelled again."""


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


async def wait_briefly(event: asyncio.Event, seconds: float) -> None:
    """Return when the event is set or the time is over.

    Unlike ``asyncio.wait_for`` of Python 3.11, which drops a cancellation that arrives together with the event: a task
    that waits in a loop would run for ever.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


async def end_tasks(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait for their end; again where something below them has dropped the cancellation."""
    while unfinished := [task for task in tasks if not task.done()]:
        for task in unfinished:
            task.cancel()
        await asyncio.wait(unfinished, timeout=AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)  # or asyncio logs that nobody asked for what they raised
