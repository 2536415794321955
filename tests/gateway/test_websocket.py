"""WebSockets through the gateway: a real server before it, a real WebSocket server behind it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response
from websockets.typing import Origin, Subprotocol

from gateway.activity import Activity
from gateway.asgi import Message
from gateway.routes import RouteTable
from gateway.websocket import relay_websocket
from tests.gateway.harness import UPSTREAM_KEY, Upstream, make_route, settle, wait_until
from tests.gateway.plain_app import PlainApp
from tests.stalls import Stopwatch

pytestmark = pytest.mark.any_database

MEBIBYTE = 1024 * 1024
Handler = Callable[[ServerConnection], Awaitable[None]]


class Engine(Upstream):
    """A WebSocket server in the place of an engine; `handler` serves each connection."""

    def __init__(self) -> None:
        super().__init__()
        self.serve_socket: Handler = echo
        self.sockets: list[ServerConnection] = []
        self.refusal: int | None = None

    async def handle(self, socket: ServerConnection) -> None:
        self.sockets.append(socket)
        await self.serve_socket(socket)

    def decide(self, socket: ServerConnection, request: Request) -> Response | None:
        return None if self.refusal is None else socket.respond(self.refusal, "the engine's own words\n")


async def echo(socket: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        while True:
            await socket.send(await socket.recv())


def choose_subprotocol(socket: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return next((name for name in offered if name in ("realtime", "chat")), None)


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    made = Engine()
    async with serve(
        made.handle,
        "127.0.0.1",
        0,
        select_subprotocol=choose_subprotocol,
        process_request=made.decide,
        max_size=None,
        compression=None,
    ) as server:
        made.port = next(iter(server.sockets)).getsockname()[1]
        yield made


@pytest.fixture
async def app(engine: Engine) -> AsyncIterator[PlainApp]:
    async with PlainApp(engine) as running:
        yield running


@contextlib.asynccontextmanager
async def dial(app: PlainApp, path: str = "/v1/realtime?model=m", **options: object) -> AsyncIterator[ClientConnection]:
    options.setdefault("max_size", None)
    async with connect(f"ws://127.0.0.1:{app.port}{path}", proxy=None, **options) as client:  # type: ignore[arg-type]
        yield client


async def test_text_and_binary_messages_pass_both_ways_as_what_they_are(app: PlainApp, engine: Engine) -> None:
    async with dial(app) as client:
        for message in ("text", "ä 😀", "", b"binary", b"\x00\xff", b""):
            await client.send(message)
            assert await client.recv() == message
    await wait_until(lambda: app.activity.in_flight == {})


async def test_the_engine_sees_its_own_key_and_none_of_the_clients(app: PlainApp, engine: Engine) -> None:
    headers = {
        "Authorization": "Bearer secret",
        "X-Api-Key": "secret",
        "Cookie": "sessionid=secret",
        "Cookie2": "sessionid=secret",
        "Api-Key": "secret",
        "X-Goog-Api-Key": "secret",
        "X-CSRFToken": "secret",
        "X-Extra": "yes",
        "X-Forwarded-For": "10.0.0.1",
    }
    subprotocols = [Subprotocol("realtime"), Subprotocol("openai-insecure-api-key.secret")]
    app.change_route(path_prefix="/llm")
    async with dial(
        app, "/v1/a%2Fb?x=%20y", additional_headers=headers, subprotocols=subprotocols, origin=Origin("http://secret")
    ) as client:
        assert client.subprotocol == "realtime"
        request = engine.sockets[0].request
    assert request is not None
    assert "secret" not in str(request.headers)
    assert request.path == "/llm/v1/a%2Fb?x=%20y"
    assert request.headers.get_all("authorization") == [f"Bearer {UPSTREAM_KEY}"]
    assert request.headers["x-extra"] == "yes"
    assert request.headers["x-forwarded-for"] == "10.0.0.1, 127.0.0.1"
    assert request.headers["host"] == f"127.0.0.1:{engine.port}"
    assert "sec-websocket-extensions" not in request.headers
    assert len(request.headers.get_all("user-agent")) == 1


async def test_a_client_that_asks_for_no_subprotocol_gets_none(app: PlainApp) -> None:
    async with dial(app) as client:
        assert client.subprotocol is None


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 3000, 4999])
async def test_the_engine_hears_how_the_client_closes(app: PlainApp, engine: Engine, code: int) -> None:
    async with dial(app) as client:
        await client.close(code, "wörd")
    await wait_until(lambda: engine.sockets[0].close_code is not None)
    assert (engine.sockets[0].close_code, engine.sockets[0].close_reason) == (code, "wörd")
    await wait_until(lambda: app.activity.in_flight == {})


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1013, 3000, 4999])
async def test_the_client_hears_how_the_engine_closes(app: PlainApp, engine: Engine, code: int) -> None:
    async def say_and_close(socket: ServerConnection) -> None:
        await socket.send("last words")
        await socket.close(code, "wörd")

    engine.serve_socket = say_and_close
    async with dial(app) as client:
        assert await client.recv() == "last words"
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert (client.close_code, client.close_reason) == (code, "wörd")
    await wait_until(lambda: app.activity.in_flight == {})


async def test_a_client_that_vanishes_closes_the_engines_end(app: PlainApp, engine: Engine) -> None:
    async with dial(app) as client:
        await client.send("x")
        await client.recv()
        assert app.activity.in_flight == {1: 1}
        client.transport.abort()
        since_left = Stopwatch()
        await wait_until(lambda: engine.sockets[0].close_code is not None)
        assert since_left.worked_s < 0.1
    await wait_until(lambda: app.activity.in_flight == {})


async def test_an_engine_that_dies_is_told_to_the_client(app: PlainApp, engine: Engine) -> None:
    async def die(socket: ServerConnection) -> None:
        await socket.recv()
        socket.transport.abort()

    engine.serve_socket = die
    async with dial(app) as client:
        await client.send("x")
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert (client.close_code, client.close_reason) == (1011, "The engine broke the connection")
    await wait_until(lambda: app.activity.in_flight == {})


@pytest.mark.parametrize(
    ("frame", "code"), [(b"\x88\x02\x13\x87", 4999), (b"\x81\x81\0\0\0\0x", 1002)], ids=["close", "masked"]
)
async def test_an_engine_that_ends_but_leaves_its_connection_open_is_told_to_the_client(
    app: PlainApp, engine: Engine, frame: bytes, code: int
) -> None:
    async def end(socket: ServerConnection) -> None:
        await socket.recv()
        socket.transport.write(frame)
        await socket.wait_closed()

    engine.serve_socket = end
    async with dial(app) as client:
        await client.send("x")
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == code
    await wait_until(lambda: app.activity.in_flight == {})


@pytest.mark.parametrize("status", [401, 403, 404, 429, 503])
async def test_a_refusal_of_the_engine_comes_with_its_status_and_a_body(
    app: PlainApp, engine: Engine, status: int
) -> None:
    engine.refusal = status
    with pytest.raises(InvalidStatus) as refusal:
        async with dial(app):
            pass
    response = refusal.value.response
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert f"refused the WebSocket with status {status}".encode() in (response.body or b"")
    assert app.activity.in_flight == {}


@pytest.mark.parametrize("status", [200, 302])
async def test_an_engine_without_websockets_there_is_a_bad_gateway(app: PlainApp, engine: Engine, status: int) -> None:
    engine.refusal = status
    with pytest.raises(InvalidStatus) as refusal:
        async with dial(app):
            pass
    assert refusal.value.response.status_code == 502


async def test_an_unreachable_instance_is_a_bad_gateway(app: PlainApp) -> None:
    app.change_route(port=1)
    with pytest.raises(InvalidStatus) as refusal:
        async with dial(app):
            pass
    assert refusal.value.response.status_code == 502
    assert b"Connection refused" in (refusal.value.response.body or b"")


async def test_an_instance_that_does_not_shake_hands_is_given_up(app: PlainApp, upstream: Upstream) -> None:
    upstream.handler = lambda _: asyncio.sleep(30)
    app.change_route(port=upstream.port)
    app.connect_timeout_s = 1.0
    watch = Stopwatch()
    with pytest.raises(InvalidStatus) as refusal:
        async with dial(app):
            pass
    assert refusal.value.response.status_code == 504
    assert watch.wall_s > 0.9
    assert watch.worked_s < 2


async def test_a_client_that_leaves_during_the_handshake_closes_the_upstream(app: PlainApp, upstream: Upstream) -> None:
    closed = asyncio.Event()

    async def say_nothing(call: object) -> None:
        await upstream.calls[0].wait_closed()
        closed.set()

    upstream.handler = say_nothing
    app.change_route(port=upstream.port, connect_timeout_s=30)
    opening = asyncio.create_task(dial(app).__aenter__())
    await wait_until(lambda: upstream.calls)
    assert app.activity.in_flight == {1: 1}
    opening.cancel()
    since_left = Stopwatch()
    await closed.wait()
    assert since_left.worked_s < 0.1
    await wait_until(lambda: app.activity.in_flight == {})


async def test_messages_of_16_mebibytes_pass_both_ways(app: PlainApp) -> None:
    message = bytes(range(256)) * (16 * MEBIBYTE // 256)
    async with dial(app) as client:
        await client.send(message)
        assert await client.recv() == message


async def test_a_longer_message_of_the_engine_ends_the_connection(app: PlainApp, engine: Engine) -> None:
    engine.serve_socket = lambda socket: socket.send(b"x" * (16 * MEBIBYTE + 1))
    async with dial(app) as client:
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == 1009
    await wait_until(lambda: app.activity.in_flight == {})


async def test_a_slow_client_makes_the_engine_wait(app: PlainApp, engine: Engine) -> None:
    sent = 0

    async def pour(socket: ServerConnection) -> None:
        nonlocal sent
        for _ in range(200):
            await socket.send(b"x" * MEBIBYTE)
            sent += 1

    engine.serve_socket = pour
    async with dial(app, max_queue=1) as client:
        assert await settle(lambda: sent) < 80
        for _ in range(200):
            assert len(await client.recv()) == MEBIBYTE


async def test_a_slow_engine_makes_the_client_wait(app: PlainApp, engine: Engine) -> None:
    go_on = asyncio.Event()
    received = 0

    async def sip(socket: ServerConnection) -> None:
        nonlocal received
        await go_on.wait()
        with contextlib.suppress(ConnectionClosed):
            while await socket.recv():
                received += 1

    engine.serve_socket = sip
    sent = 0

    async def pour(client: ClientConnection) -> None:
        nonlocal sent
        for _ in range(100):
            await client.send(b"y" * MEBIBYTE)
            sent += 1

    async with dial(app) as client:
        pouring = asyncio.create_task(pour(client))
        try:
            assert await settle(lambda: sent) < 80
        finally:
            go_on.set()  # the engine's end waits for this connection
        await pouring
        await wait_until(lambda: received == 100)


async def test_a_server_without_the_extension_is_told_to_close(engine: Engine) -> None:
    engine.refusal = 404
    route = make_route(engine)
    said: list[Message] = []
    messages = iter([{"type": "websocket.connect"}])

    async def receive() -> Message:
        for message in messages:
            return message
        return await asyncio.get_running_loop().create_future()

    async def send(message: Message) -> None:
        said.append(message)

    scope: Message = {"type": "websocket", "headers": [], "extensions": {}}
    activity = Activity(RouteTable(), on_drain=lambda: None)
    await relay_websocket(scope, receive, send, route=route, path=b"/x", query=b"", activity=activity)
    assert [(message["type"], message["code"]) for message in said] == [("websocket.close", 1008)]
    assert "refused the WebSocket with status 404" in said[0]["reason"]
