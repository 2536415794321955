"""An instance's own time-outs."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.gateway.harness import MANAGEMENT_KEY, Call, Gateway, RawClient, Upstream, make_route, wait_until

pytestmark = pytest.mark.no_database


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port whose engine hangs: the kernel takes no more connections for it, and says nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        waiting = []
        for _ in range(8):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(server.getsockname())
            waiting.append(client)
        yield server.getsockname()[1]
        for client in waiting:
            client.close()


async def test_an_instance_that_takes_no_connection_is_given_up(gateway: Gateway, deaf_port: int) -> None:
    await gateway.set_routes(make_route(state="ready", host="127.0.0.1", port=deaf_port, connect_timeout_s=2))
    start = time.monotonic()
    answer = await gateway.ask()
    assert 1.9 < time.monotonic() - start < 3
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "upstream_timeout"
    assert "within 2 seconds" in answer.json()["error"]["message"]


@pytest.mark.parametrize("is_upload", [False, True], ids=["whole", "streamed"])
async def test_a_client_that_leaves_while_the_instance_is_dialled_is_noticed(
    gateway: Gateway, deaf_port: int, is_upload: bool
) -> None:
    await gateway.set_routes(make_route(state="ready", host="127.0.0.1", port=deaf_port, connect_timeout_s=30))
    async with RawClient(gateway.port) as client:
        if is_upload:
            client.send("POST", "/api/v1/instances/m/proxy/up", "Content-Length: 100000", key=MANAGEMENT_KEY)
            client.writer.write(b"x" * 1000)
        else:
            client.ask()
        await wait_until(lambda: gateway.app.activity.in_flight == {1: 1})
        await asyncio.sleep(0.1)
    left = time.monotonic()
    await wait_until(lambda: gateway.app.activity.in_flight == {}, 2)
    assert time.monotonic() - left < 0.1
    await wait_until(lambda: gateway.finished)
    assert gateway.finished[-1].outcome == "cancelled"


async def test_an_answer_that_does_not_begin_in_time_is_given_up(gateway: Gateway, upstream: Upstream) -> None:
    closed: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def think(call: Call) -> None:
        await call.read_body()
        await call.write(b"HTTP/1.1 102 Processing\r\n\r\n")
        closed.set_result(await call.wait_closed())

    upstream.handler = think
    await gateway.set_routes(make_route(upstream, first_byte_timeout_s=1))
    start = time.monotonic()
    answer = await gateway.ask()
    assert 0.9 < time.monotonic() - start < 2
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "upstream_timeout"
    assert answer.json()["error"]["message"] == "Instance m gave no answer: no answer came within 1 seconds"
    assert await asyncio.wait_for(closed, 1) - start < 2
    assert len(upstream.calls) == 1


async def test_the_time_to_the_answer_counts_from_the_end_of_an_upload(gateway: Gateway, upstream: Upstream) -> None:
    await gateway.set_routes(make_route(upstream, first_byte_timeout_s=1))
    async with RawClient(gateway.port) as client:
        client.send("POST", "/api/v1/instances/m/proxy/up", "Content-Length: 4", key=MANAGEMENT_KEY)
        for _ in range(4):
            client.writer.write(b"x")
            await asyncio.sleep(0.4)
        assert "200 OK" in await client.read_head()

    async def think(call: Call) -> None:
        await call.read_body()
        await call.wait_closed()

    upstream.handler = think
    async with RawClient(gateway.port) as client:
        client.send("POST", "/api/v1/instances/m/proxy/up", "Content-Length: 4", key=MANAGEMENT_KEY)
        client.writer.write(b"xx")
        await asyncio.sleep(0.1)
        client.writer.write(b"xx")
        start = time.monotonic()
        assert "504 " in await client.read_head()
        assert 0.9 < time.monotonic() - start < 2


async def test_a_stream_that_pauses_too_long_is_broken_off(gateway: Gateway, upstream: Upstream) -> None:
    async def pause(call: Call) -> None:
        await call.read_body()
        await call.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(4):
            await call.write_chunk(b"data: 1\n\n")
            await asyncio.sleep(0.5)
        await call.wait_closed()

    upstream.handler = pause
    await gateway.set_routes(make_route(upstream, idle_timeout_s=1))
    start = time.monotonic()
    async with gateway.client.stream("POST", "/v1/chat/completions", json={"model": "m"}) as answer:
        pieces = answer.aiter_raw()
        for _ in range(4):  # pauses below the limit are none
            await anext(pieces)
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(pieces)
    assert 2.4 < time.monotonic() - start < 3.5
    await wait_until(lambda: gateway.finished)
    assert gateway.finished[-1].outcome == "upstream_lost"


async def test_a_client_that_reads_slowly_is_no_pause_of_the_instance(gateway: Gateway, upstream: Upstream) -> None:
    async def pour(call: Call) -> None:
        await call.read_body()
        await call.write(b"HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n")
        await call.write(b"x" * 20_000_000)

    upstream.handler = pour
    await gateway.set_routes(make_route(upstream, idle_timeout_s=1))
    async with RawClient(gateway.port, receive_buffer=65536) as client:
        client.ask()
        await client.read_head()
        await asyncio.sleep(2.5)
        assert len(await client.reader.readexactly(20_000_000)) == 20_000_000
    await wait_until(lambda: gateway.finished)
    assert gateway.finished[-1].outcome == "answered"


async def test_a_time_out_leaves_nothing_behind_on_a_connection_that_is_kept(
    gateway: Gateway, upstream: Upstream
) -> None:
    await gateway.set_routes(make_route(upstream, first_byte_timeout_s=1, idle_timeout_s=1))
    for _ in range(3):
        assert (await gateway.ask()).status_code == 200
        await asyncio.sleep(0.6)
    assert upstream.connection_count == 1
