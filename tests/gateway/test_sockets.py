"""WebSockets find their model, their rights and their way as requests do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from gateway.structs import Principal, Route
from tests.gateway.harness import KEY, MANAGEMENT_KEY, UPSTREAM_KEY, Gateway, make_route, wait_until

pytestmark = pytest.mark.any_database


class Engine:
    """A WebSocket server that tells what it was asked, then echoes."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self.port = 0

    async def handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        headers = connection.request.headers
        await connection.send(f"{connection.request.path} {headers.get('authorization')} {headers.get('cookie')}")
        try:
            async for message in connection:
                await connection.send(message)
        except ConnectionClosed:
            pass
        self.closed.set()


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    engine = Engine()
    server: Server
    async with serve(engine.handle, "127.0.0.1", 0) as server:
        engine.port = next(iter(server.sockets)).getsockname()[1]
        yield engine


def route_to(engine: Engine, **changes: object) -> Route:
    ready = {"state": "ready", "host": "127.0.0.1", "port": engine.port, "run_id": 7, "upstream_key": UPSTREAM_KEY}
    return make_route(None, **{**ready, **changes})


@pytest.mark.parametrize(
    ("path", "target", "key"),
    [
        ("/v1/realtime?model=m&x=1", "/v1/realtime?model=m&x=1", KEY),
        ("/v1/realtime", "/v1/realtime", KEY),
        ("/upstream/m/ws%2Fx?y=1", "/ws%2Fx?y=1", KEY),
        ("/api/v1/instances/m/proxy/ws", "/ws", MANAGEMENT_KEY),
    ],
)
async def test_messages_go_both_ways_and_no_credential_does(
    gateway: Gateway, engine: Engine, path: str, target: str, key: str
) -> None:
    await gateway.set_routes(route_to(engine))
    headers = {"authorization": f"Bearer {key}", "cookie": "sessionid=secret"}
    async with connect(f"ws://127.0.0.1:{gateway.port}{path}", additional_headers=headers) as client:
        assert await client.recv() == f"{target} Bearer {UPSTREAM_KEY} None"
        for message in ("text", b"bytes"):
            await client.send(message)
            assert await client.recv() == message
        assert gateway.app.activity.in_flight == {1: 1}
    await wait_until(lambda: gateway.app.activity.in_flight == {})
    await engine.closed.wait()
    assert [(exchange.status, exchange.outcome) for exchange in gateway.finished] == [(101, "answered")]


async def test_browsers_send_the_key_as_a_subprotocol(gateway: Gateway, engine: Engine) -> None:
    await gateway.set_routes(route_to(engine))
    protocols = [Subprotocol(f"openai-insecure-api-key.{KEY}")]
    async with connect(f"ws://127.0.0.1:{gateway.port}/v1/realtime?model=m", subprotocols=protocols) as client:
        assert UPSTREAM_KEY in str(await client.recv())


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/v1/realtime?model=m", None),
        ("/v1/realtime?model=m", "wrong"),
        ("/v1/realtime?model=unknown", KEY),
        ("/v1/realtime?model=m", "limited"),
        ("/upstream/none/ws", KEY),
        ("/api/v1/instances/m/proxy/ws", KEY),
    ],
)
async def test_a_refused_websocket_is_never_accepted(
    gateway: Gateway, engine: Engine, path: str, key: str | None
) -> None:
    gateway.keys["limited"] = Principal(kind="inference")
    await gateway.set_routes(route_to(engine))
    headers = {"authorization": f"Bearer {key}"} if key else {}
    with pytest.raises(InvalidStatus) as caught:
        await connect(f"ws://127.0.0.1:{gateway.port}{path}", additional_headers=headers)
    assert caught.value.response.status_code in (401, 403, 404)
    assert not engine.closed.is_set()


async def test_a_websocket_starts_its_model_and_waits_for_it(gateway: Gateway, engine: Engine) -> None:
    await gateway.set_routes(make_route())
    headers = {"authorization": f"Bearer {KEY}"}
    opening = asyncio.create_task(
        connect(f"ws://127.0.0.1:{gateway.port}/v1/realtime?model=m", additional_headers=headers).__aenter__()
    )
    await wait_until(gateway.app.demand.report)
    await gateway.set_routes(route_to(engine, state_changed_at=2.0))
    client = await opening
    assert UPSTREAM_KEY in str(await client.recv())
    await client.close()


async def test_a_client_that_leaves_before_it_was_let_in_is_waited_for_no_more(gateway: Gateway) -> None:
    await gateway.set_routes(make_route())
    headers = {"authorization": f"Bearer {KEY}"}
    opening = asyncio.create_task(
        connect(f"ws://127.0.0.1:{gateway.port}/v1/realtime?model=m", additional_headers=headers).__aenter__()
    )
    await wait_until(gateway.app.demand.report)
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    await wait_until(lambda: not gateway.app.demand.report())


@pytest.mark.parametrize(
    "path", ["/v1/realtime?model=m", "/v1/realtime", "/upstream/m/ws", "/api/v1/instances/m/proxy/ws"]
)
async def test_a_websocket_holds_a_place_for_as_long_as_it_lasts(gateway: Gateway, engine: Engine, path: str) -> None:
    await gateway.set_routes(route_to(engine, concurrency_limit=1))
    key = MANAGEMENT_KEY if path.startswith("/api/") else KEY
    headers = {"authorization": f"Bearer {key}"}
    places = gateway.app.demand.limits
    for _ in range(2):
        async with connect(f"ws://127.0.0.1:{gateway.port}{path}", additional_headers=headers) as client:
            await client.recv()
            assert places.report() == {1: 1}
            with pytest.raises(InvalidStatus) as refusal:
                await connect(f"ws://127.0.0.1:{gateway.port}{path}", additional_headers=headers)
            assert refusal.value.response.status_code == 429
            assert (await gateway.ask()).status_code == 429
        await wait_until(lambda: places.report() == {})
