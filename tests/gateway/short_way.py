"""Seeing to it, and seeing, that requests go the short way (`gateway.direct`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.direct import Client, DirectWay
from tests.gateway.harness import Call, Gateway, RawClient, Upstream, wait_until


async def warm(gateway: Gateway, upstream: Upstream, count: int = 1) -> None:
    """Let the engine have this many idle connections, and forget how they came about."""
    handler, all_here = upstream.handler, asyncio.Event()

    async def wait_for_all(call: Call) -> None:
        await call.read_body()
        if len(upstream.calls) >= count:
            all_here.set()
        await all_here.wait()
        await call.answer(b"warm")

    upstream.handler = wait_for_all
    await asyncio.gather(*(gateway.ask() for _ in range(count)))
    await wait_until(lambda: len(gateway.finished) == count)
    assert gateway.app.pool.count_idle(("127.0.0.1", upstream.port)) == count
    upstream.handler = handler
    upstream.calls.clear()
    gateway.finished.clear()


@pytest.fixture
async def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each request that was offered to the short way went it."""
    known: list[bool] = []
    take = DirectWay.take

    def note(way: DirectWay, client: Client) -> bool:
        known.append(False)
        known[-1] = take(way, client)
        return known[-1]

    monkeypatch.setattr(DirectWay, "take", note)
    return known


@pytest.fixture(params=[False, True], ids=["on an idle connection", "on a new connection"])
async def client(
    request: pytest.FixtureRequest, gateway: Gateway, upstream: Upstream, taken: list[bool]
) -> AsyncIterator[RawClient]:
    """A client whose next request goes the short way, with or without an idle connection to the engine."""
    await warm(gateway, upstream)
    if request.param:
        gateway.app.pool.retain(())
    taken.clear()
    async with RawClient(gateway.port) as one:
        yield one
    await wait_until(lambda: not gateway.app.activity.in_flight)
