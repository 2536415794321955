"""How many clients are accepted in a turn of the event loop, on the loop that the web server runs on."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest
import uvicorn
import uvloop

from portal.acceptor import ACCEPT_LIMIT, Acceptor
from portal.http_protocol import BoundedHttpProtocol
from portal.web import make_config
from tests.portal.web import application, read_all, serve, split, start, write

pytestmark = pytest.mark.any_database

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


async def answer(_scope: Any, _receive: Any, send: Any) -> None:
    """Say hello."""
    await start(send, 200, (b"content-length", b"5"))
    await write(send, b"hello")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A socket on which clients wait until somebody accepts them."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as server:
        yield server


def connect(listener: socket.socket, count: int, clients: ExitStack) -> list[socket.socket]:
    """So many clients, connected as far as the system goes."""
    address = listener.getsockname()
    return [clients.enter_context(socket.create_connection(address, timeout=60)) for _ in range(count)]


def run_server(listener: socket.socket, work: Callable[[uvicorn.Server], Coroutine[Any, Any, None]]) -> None:
    """Do the work beside a server that has just begun to listen, in its loop."""
    config = make_config(1, application(answer))
    config.listener = listener
    server = uvicorn.Server(config)

    async def run() -> None:
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup([listener])
        await work(server)
        for connection in list(server.server_state.connections):
            cast("BoundedHttpProtocol", connection).transport.abort()
        for part in server.servers:
            part.close()
        await server.lifespan.shutdown()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def count_turns(server: uvicorn.Server, count: int, turn_s: float = 0.0) -> int:
    """How many turns of the loop, as long as it is said, pass until so many are connected."""
    turns = 0
    while len(server.server_state.connections) < count:
        await asyncio.sleep(0)
        turns += 1
        time.sleep(turn_s)  # noqa: ASYNC251  what others of the loop do
        assert turns < 10_000
    return turns


@pytest.mark.parametrize("turn_s", [0.0, 0.03])
def test_a_crowd_is_accepted_in_a_few_turns(listener: socket.socket, turn_s: float) -> None:
    count = 20 * ACCEPT_LIMIT

    async def work(server: uvicorn.Server) -> None:
        # The loop itself takes one in a turn. Whoever is taken besides needs two more turns, as any dialled connection.
        assert await count_turns(server, count, turn_s) < count / 4

    with ExitStack() as clients:
        connect(listener, count, clients)
        run_server(listener, work)


def test_everybody_of_a_crowd_is_served() -> None:
    with serve(application(answer)) as port, ExitStack() as clients:
        everybody = [
            clients.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60)) for _ in range(200)
        ]
        for client in everybody:
            client.sendall(REQUEST)
        for client in everybody:
            lines, body = split(read_all(client))
            assert lines[0] == b"HTTP/1.1 200 OK"
            assert body == b"hello"


def test_clients_that_leave_before_they_are_accepted_hold_nobody_up(listener: socket.socket) -> None:
    async def work(server: uvicorn.Server) -> None:
        for _ in range(100):
            await asyncio.sleep(0)
        ours = [connection.client for connection in map(_as_protocol, server.server_state.connections)]
        assert last.getsockname() in ours

    with ExitStack() as clients:
        for client in connect(listener, 20, clients)[:10]:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset instead of a close
            client.close()
        (last,) = connect(listener, 1, clients)
        run_server(listener, work)


def test_clients_that_are_accepted_while_the_server_stops_do_not_hold_it_up(listener: socket.socket) -> None:
    async def work(server: uvicorn.Server) -> None:
        await count_turns(server, 1)  # others are being accepted
        await server.shutdown()
        assert not server.server_state.connections

    with ExitStack() as clients:
        asked, *_idle = connect(listener, 20, clients)
        asked.sendall(REQUEST.replace(b"Connection: close\r\n", b""))
        run_server(listener, work)
        assert read_all(asked).endswith(b"hello")


def test_no_files_are_left_open(listener: socket.socket) -> None:
    async def work(server: uvicorn.Server) -> None:
        await count_turns(server, 50)

    def count_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = count_files()
    with ExitStack() as clients:
        connect(listener, 50, clients)
        run_server(listener, work)
    # The server has closed the listener's descriptor with its own.
    assert count_files() <= before


def test_an_acceptor_does_not_mind_that_its_listener_was_closed(listener: socket.socket) -> None:
    acceptor = Acceptor(listener)

    async def run() -> None:
        listener.close()
        acceptor._accept_waiting(asyncio.get_running_loop(), cast("Any", None))

    asyncio.run(run())


def _as_protocol(connection: object) -> BoundedHttpProtocol:
    return cast("BoundedHttpProtocol", connection)
