"""Tasks end when they are cancelled, at whatever moment."""

from __future__ import annotations

import asyncio

import pytest

from instances.logs import cancellation
from instances.logs.cancellation import end_tasks, wait_briefly


async def test_a_cancellation_that_comes_together_with_the_event_is_kept() -> None:
    """`asyncio.wait_for` of Python 3.11 drops it: a guard of a log lived on after its viewer had left."""
    event = asyncio.Event()

    async def wait_in_a_loop() -> None:
        while True:
            await wait_briefly(event, 30)
            event.clear()

    task = asyncio.create_task(wait_in_a_loop())
    for turns in range(6):  # of the event loop between both
        await asyncio.sleep(0.01)
        event.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task}, timeout=5)
        assert task.cancelled()
        task = asyncio.create_task(wait_in_a_loop())
    task.cancel()


async def test_a_task_that_drops_a_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancellation, "AGAIN_S", 0.05)
    dropped = []

    async def drop() -> None:
        while len(dropped) < 3:
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                dropped.append(1)

    await asyncio.wait_for(end_tasks(asyncio.create_task(drop()), asyncio.create_task(asyncio.sleep(30))), 10)
    assert len(dropped) == 3
