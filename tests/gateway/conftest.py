from __future__ import annotations

import asyncio
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
