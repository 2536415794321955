"""Connections to an engine that are used again, and what is asked a second time when one of them ends."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest

from tests.gateway.fake_engines import EagerCloser
from tests.gateway.harness import CONFIG, Call, Gateway, Upstream, make_route, wait_until

pytestmark = pytest.mark.any_database


async def test_connections_are_used_again(gateway: Gateway, upstream: Upstream) -> None:
    for _ in range(5):
        await gateway.ask()
    assert len(upstream.calls) == 5
    assert upstream.connection_count == 1


async def test_an_engine_that_reads_the_request_and_dies_has_executed_it_once(
    gateway: Gateway, upstream: Upstream
) -> None:
    executed: list[bytes] = []

    async def die_at_the_second(call: Call) -> None:
        executed.append(await call.read_body())
        if len(executed) == 2:
            call.writer.close()
        else:
            await call.answer(b"fine")

    upstream.handler = die_at_the_second
    assert (await gateway.ask({"model": "m", "n": 1})).text == "fine"
    answer = await gateway.ask({"model": "m", "n": 2})
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "bad_gateway"
    assert upstream.connection_count == 1, "the second request was to go onto the connection of the first"
    assert [json.loads(body)["n"] for body in executed] == [1, 2]


async def test_an_engine_that_dies_with_half_of_the_request_read_is_not_asked_again(
    gateway: Gateway, upstream: Upstream
) -> None:
    async def die_at_the_second(call: Call) -> None:
        if len(upstream.calls) == 2:
            # What has come and isn't read yet makes the kernel reset the connection instead of closing it.
            call.reader._transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(0.1)
            call.writer.transport.abort()
        else:
            await call.read_body()
            await call.answer(b"fine")

    upstream.handler = die_at_the_second
    assert (await gateway.ask()).text == "fine"
    answer = await gateway.ask({"model": "m", "x": "y" * 5_000_000})
    assert answer.status_code == 502
    assert len(upstream.calls) == 2


async def test_an_engine_that_closes_idle_connections_never_shows_the_client_an_error(gateway: Gateway) -> None:
    async with EagerCloser() as engine:
        await gateway.set_routes(make_route(port=engine.port, state="ready", host="127.0.0.1", upstream_key="k"))

        async def keep_asking(pause_s: float) -> list[int]:
            statuses = []
            for _ in range(150):
                statuses.append((await gateway.ask()).status_code)
                await asyncio.sleep(pause_s)
            return statuses

        answers = await asyncio.gather(*(keep_asking(pause / 10_000) for pause in range(8)))
        assert [status for statuses in answers for status in statuses] == [200] * 1200
        assert engine.answered == 1200
        assert engine.closed > 100, "the engine was to close connections between requests"


async def test_a_new_connection_that_dies_is_not_tried_again(gateway: Gateway, upstream: Upstream) -> None:
    async def close(call: Call) -> None:
        call.writer.close()

    upstream.handler = close
    answer = await gateway.ask()
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "bad_gateway"
    assert len(upstream.calls) == 1


async def test_an_answer_that_has_begun_is_not_asked_for_again(gateway: Gateway, upstream: Upstream) -> None:
    async def begin(call: Call) -> None:
        await call.read_body()
        if len(upstream.calls) == 1:
            await call.answer(b"fine")
        else:
            await call.write(b"HTTP/1.1 200 OK\r\nContent-Le")
            call.writer.close()

    upstream.handler = begin
    assert (await gateway.ask()).text == "fine"
    assert (await gateway.ask()).status_code == 502
    assert len(upstream.calls) == 2


async def test_an_engine_that_closed_its_idle_connection_costs_nothing(gateway: Gateway, upstream: Upstream) -> None:
    assert (await gateway.ask()).status_code == 200
    await upstream.drop_connections()
    assert (await gateway.ask()).status_code == 200


async def test_idle_connections_are_closed_after_a_while_and_with_their_route(upstream: Upstream) -> None:
    config = msgspec.structs.replace(CONFIG, upstream_idle_timeout_s=0.1)
    async with Gateway(config) as gateway:
        await gateway.set_routes(make_route(upstream))
        endpoint = ("127.0.0.1", upstream.port)
        await gateway.ask()
        assert gateway.app.pool.count_idle(endpoint) == 1
        await wait_until(lambda: gateway.app.pool.count_idle(endpoint) == 0)
        await gateway.ask()
        assert gateway.app.pool.count_idle(endpoint) == 1
        await gateway.set_routes(make_route())
        assert gateway.app.pool.count_idle(endpoint) == 0


async def see_a_close(gateway: Gateway, upstream: Upstream) -> tuple[str, int]:
    """Let the engine close an idle connection after 0.3 s and take another one; return its address."""
    await gateway.set_routes(make_route(upstream))
    await gateway.ask()
    await asyncio.sleep(0.3)
    await upstream.drop_connections()
    await gateway.ask()
    return "127.0.0.1", upstream.port


async def test_idle_connections_go_before_an_engine_closes_them_once_it_was_seen_to(upstream: Upstream) -> None:
    async with Gateway() as gateway:
        endpoint = await see_a_close(gateway, upstream)
        assert upstream.connection_count == 2
        await wait_until(lambda: gateway.app.pool.count_idle(endpoint) == 0, timeout_s=10)


async def test_what_was_learned_of_an_engine_goes_with_its_route(upstream: Upstream) -> None:
    async with Gateway() as gateway:
        endpoint = await see_a_close(gateway, upstream)
        await gateway.set_routes()
        await gateway.set_routes(make_route(upstream))
        await gateway.ask()
        await asyncio.sleep(2.5)
        assert gateway.app.pool.count_idle(endpoint) == 1
