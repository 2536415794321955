"""An instance's own time-outs."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tests.gateway.harness import MANAGEMENT_KEY, Call, Gateway, RawClient, Upstream, make_route, wait_until
from tests.stalls import Stopwatch

pytestmark = pytest.mark.any_database


async def test_an_instance_that_takes_no_connection_is_given_up(gateway: Gateway, deaf_port: int) -> None:
    await gateway.set_routes(make_route(state="ready", host="127.0.0.1", port=deaf_port, connect_timeout_s=2))
    watch = Stopwatch()
    answer = await gateway.ask()
    assert watch.wall_s > 1.9
    assert watch.worked_s < 3
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
    since_left = Stopwatch()
    await wait_until(lambda: gateway.app.activity.in_flight == {})
    assert since_left.worked_s < 0.1
    await wait_until(lambda: gateway.finished)
    assert gateway.finished[-1].outcome == "cancelled"


async def test_an_answer_that_does_not_begin_in_time_is_given_up(gateway: Gateway, upstream: Upstream) -> None:
    closed = asyncio.Event()

    async def think(call: Call) -> None:
        await call.read_body()
        await call.write(b"HTTP/1.1 102 Processing\r\n\r\n")
        await call.wait_closed()
        closed.set()

    upstream.handler = think
    await gateway.set_routes(make_route(upstream, first_byte_timeout_s=1))
    watch = Stopwatch()
    answer = await gateway.ask()
    assert watch.wall_s > 0.9
    assert watch.worked_s < 2
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "upstream_timeout"
    assert answer.json()["error"]["message"] == "Instance m gave no answer: no answer came within 1 seconds"
    await closed.wait()
    assert watch.worked_s < 2
    assert len(upstream.calls) == 1


@pytest.mark.timed
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
        watch = Stopwatch()
        assert "504 " in await client.read_head()
        assert watch.wall_s > 0.9
        assert watch.worked_s < 2


@pytest.mark.timed
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
    watch = Stopwatch()
    async with gateway.client.stream("POST", "/v1/chat/completions", json={"model": "m"}) as answer:
        pieces = answer.aiter_raw()
        for _ in range(4):  # pauses below the limit are none
            await anext(pieces)
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(pieces)
    assert watch.wall_s > 2.4
    assert watch.worked_s < 3.5
    await wait_until(lambda: gateway.finished)
    assert gateway.finished[-1].outcome == "upstream_lost"


@pytest.mark.timed
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


@pytest.mark.timed
async def test_a_time_out_leaves_nothing_behind_on_a_connection_that_is_kept(
    gateway: Gateway, upstream: Upstream
) -> None:
    await gateway.set_routes(make_route(upstream, first_byte_timeout_s=1, idle_timeout_s=1))
    for _ in range(3):
        assert (await gateway.ask()).status_code == 200
        await asyncio.sleep(0.6)
    assert upstream.connection_count == 1
