"""Single connections to an engine, against a socket that the test holds in its hand."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from gateway.upstream import UpstreamConnection

pytestmark = pytest.mark.any_database

HEAD = b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


async def dial(listener: socket.socket) -> tuple[UpstreamConnection, socket.socket]:
    loop = asyncio.get_running_loop()
    address = listener.getsockname()
    _, connection = await loop.create_connection(lambda: UpstreamConnection(loop), *address)
    engine, _ = listener.accept()
    return connection, engine


async def dial_used(listener: socket.socket, pause_s: float = 0) -> tuple[UpstreamConnection, socket.socket]:
    """A connection that has carried an exchange for a client that paused before it read, and the engine's end."""
    connection, engine = await dial(listener)
    connection.start(HEAD, b"{}", is_head_request=False)
    await wait_for_data(engine, len(HEAD) + 2)
    engine.sendall(ANSWER)
    while not connection.is_complete:
        await connection.changed()
    await asyncio.sleep(pause_s)
    assert connection.take() == b"ok"
    assert connection.release(time.monotonic())
    return connection, engine


async def wait_for_data(engine: socket.socket, size: int) -> None:
    while size:
        await asyncio.sleep(0)
        engine.setblocking(False)
        try:
            size -= len(engine.recv(size))
        except BlockingIOError:
            await asyncio.sleep(0.005)
    engine.setblocking(True)


async def wait_lost(connection: UpstreamConnection) -> None:
    async with asyncio.timeout(60):
        while not connection.is_lost:
            await connection.changed()


async def test_an_answer_before_a_reset_is_heard_even_when_writing_notices_the_reset_first(
    listener: socket.socket,
) -> None:
    connection, engine = await dial(listener)
    connection.start(b"POST / HTTP/1.1\r\ncontent-length: 9000000\r\n\r\n", b"x" * 1000, is_head_request=False)
    await wait_for_data(engine, 500)
    engine.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
    engine.close()  # with bytes unread, so that the connection is reset
    connection.write(b"x" * 5_000_000)
    await wait_lost(connection)
    assert (connection.status, connection.take(), connection.is_complete) == (413, b"big", True)


async def test_a_connection_that_was_closed_is_not_handed_out_again(listener: socket.socket) -> None:
    connection, engine = await dial_used(listener)
    later = time.monotonic() + 60
    assert connection.is_usable(later)
    engine.close()
    # The event loop hasn't had a chance yet to notice.
    assert not connection.is_lost
    assert not connection.is_usable(later)


async def test_a_connection_that_was_lost_before_it_was_used_tells_why(listener: socket.socket) -> None:
    connection, engine = await dial(listener)
    engine.close()
    await wait_lost(connection)
    connection.start(HEAD, b"{}", is_head_request=False)
    assert connection.error == "it closed the connection"


async def test_what_meets_a_close_was_not_read(listener: socket.socket) -> None:
    connection, engine = await dial_used(listener)
    engine.close()
    connection.start(HEAD, b"{}", is_head_request=False)
    await wait_lost(connection)
    assert connection.is_unseen


async def test_what_meets_a_reset_was_not_read(listener: socket.socket) -> None:
    connection, engine = await dial_used(listener)
    engine.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    engine.close()
    connection.start(HEAD, b"{}", is_head_request=False)
    await wait_lost(connection)
    assert connection.is_unseen


async def test_what_comes_between_the_two_steps_of_a_close_was_not_read(listener: socket.socket) -> None:
    connection, engine = await dial_used(listener)
    connection.start(HEAD, b"{}", is_head_request=False)
    await asyncio.sleep(0.02)
    engine.shutdown(socket.SHUT_WR)
    await asyncio.sleep(0.01)
    engine.close()
    await wait_lost(connection)
    assert connection.is_unseen


@pytest.mark.parametrize("steps", ["close", "shutdown", "reset", "half-read"])
async def test_what_was_read_was_seen(listener: socket.socket, steps: str) -> None:
    connection, engine = await dial_used(listener)
    connection.start(HEAD, b"{}", is_head_request=False)
    await wait_for_data(engine, 10 if steps == "half-read" else len(HEAD) + 2)
    if steps == "shutdown":
        engine.shutdown(socket.SHUT_RDWR)
    elif steps == "reset":
        engine.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    engine.close()
    await wait_lost(connection)
    assert not connection.is_unseen
    assert connection.error


async def test_a_large_request_that_may_have_been_read_in_part_was_seen(listener: socket.socket) -> None:
    connection, engine = await dial_used(listener)
    connection.start(HEAD, b"x" * 2_000_000, is_head_request=False)
    await wait_for_data(engine, 1000)
    engine.shutdown(socket.SHUT_WR)
    engine.close()
    await wait_lost(connection)
    assert not connection.is_unseen


async def test_how_long_an_engine_keeps_a_connection_counts_from_its_answer_not_from_a_slow_client(
    listener: socket.socket,
) -> None:
    connection, engine = await dial_used(listener, pause_s=0.3)
    engine.close()
    await wait_lost(connection)
    assert connection.kept_s is not None
    assert 0.25 < connection.kept_s < 60
