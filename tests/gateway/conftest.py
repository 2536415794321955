from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

import pytest
import uvloop

from tests.gateway.harness import Gateway, Upstream, Valkey, make_route, run_valkey
from tests.gateway.short_way import client, taken  # noqa: F401  fixtures


def pytest_asyncio_loop_factories(
    config: object, item: object
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop of production."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as server:
        yield server


@pytest.fixture
async def gateway(upstream: Upstream) -> AsyncIterator[Gateway]:
    """A gateway with one ready instance, `m`."""
    async with Gateway() as running:
        await running.set_routes(make_route(upstream))
        yield running


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    with run_valkey() as server:
        yield server


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port whose engine hangs: the kernel takes no more connections for it, and says nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        waiting = []
        for _ in range(8):
            waiter = socket.socket()
            waiter.setblocking(False)
            waiter.connect_ex(server.getsockname())
            waiting.append(waiter)
        yield server.getsockname()[1]
        for waiter in waiting:
            waiter.close()
