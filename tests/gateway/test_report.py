"""What the supervisor hears, through a real Valkey."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.gateway.harness import Call, Gateway, RawClient, Upstream, Valkey, make_route, wait_until
from tests.stalls import Stopwatch

pytestmark = pytest.mark.any_database


class Listener:
    """Every report that was published, with the moment it came."""

    def __init__(self, redis: Redis) -> None:
        self._pubsub = redis.pubsub(ignore_subscribe_messages=True)
        self.reports: list[dict[str, Any]] = []
        self.times: list[float] = []

    async def subscribe(self) -> None:
        await self._pubsub.subscribe("corral:gateway")

    async def listen(self) -> None:
        async for message in self._pubsub.listen():
            self.reports.append(json.loads(message["data"]))
            self.times.append(time.monotonic())

    async def close(self) -> None:
        await self._pubsub.aclose()

    @property
    def last(self) -> dict[str, Any]:
        return self.reports[-1] if self.reports else {}


@pytest.fixture
async def redis(valkey: Valkey) -> AsyncIterator[Redis]:
    async with Redis.from_url(valkey.url) as client:
        yield client


@pytest.fixture
async def listener(redis: Redis) -> AsyncIterator[Listener]:
    listener = Listener(redis)
    await listener.subscribe()
    task = asyncio.create_task(listener.listen())
    yield listener
    task.cancel()
    await asyncio.wait((task,))
    await listener.close()


@pytest.fixture
async def reporting(valkey: Valkey, listener: Listener) -> AsyncIterator[Gateway]:
    async with Gateway(redis_url=valkey.url) as gateway:
        yield gateway


@pytest.mark.timed
async def test_a_report_is_kept_and_published_every_second(
    reporting: Gateway, listener: Listener, redis: Redis
) -> None:
    await wait_until(lambda: len(listener.reports) >= 3)
    gaps = [after - before for before, after in zip(listener.times[1:], listener.times[2:], strict=False)]
    assert all(0.7 < gap < 1.6 for gap in gaps)
    report = listener.last
    expected = {"process", "sent", "in_flight", "last_used", "waiting", "stopping", "in_work", "ended"}
    assert set(report) == expected
    assert time.time() - report["sent"] < 60
    key = f"corral:gateway:{report['process']}"
    assert json.loads(await redis.get(key))["process"] == report["process"]
    assert 0 < await redis.ttl(key) <= 5


async def test_routable_instances_are_reported_even_when_idle(
    reporting: Gateway, listener: Listener, upstream: Upstream
) -> None:
    await reporting.set_routes(make_route(upstream), make_route(name="stopped", instance_id=2))
    await wait_until(lambda: listener.last.get("in_flight") == {"1": 0})


async def test_a_drain_is_reported_the_moment_the_last_request_ends(
    reporting: Gateway, listener: Listener, upstream: Upstream
) -> None:
    finish = asyncio.Event()

    async def hold(call: Call) -> None:
        await call.read_body()
        await finish.wait()
        await call.answer(b"done")

    upstream.handler = hold
    await reporting.set_routes(make_route(upstream))
    asking = asyncio.create_task(reporting.ask())
    await wait_until(lambda: listener.last.get("in_flight") == {"1": 1})
    await reporting.set_routes(make_route(state="stopping"))
    await wait_until(lambda: len(listener.reports) > 0)
    await asyncio.sleep(0.3)
    assert listener.last["in_flight"] == {"1": 1}
    finished, watch = time.time(), Stopwatch()
    finish.set()
    assert (await asking).text == "done"
    await wait_until(lambda: listener.last["in_flight"] == {})
    assert watch.worked_s < 0.15
    assert finished <= listener.last["last_used"]["1"] <= time.time()


async def test_someone_waiting_is_reported_at_once_and_so_is_their_leaving(
    reporting: Gateway, listener: Listener
) -> None:
    await reporting.set_routes(make_route())
    await wait_until(lambda: listener.reports)
    asked, watch = time.time(), Stopwatch()
    async with RawClient(reporting.port) as client:
        client.ask()
        await wait_until(lambda: listener.last["waiting"])
        assert watch.worked_s < 0.15
        (waiting,) = listener.last["waiting"].items()
        assert waiting[0] == "1"
        assert {**waiting[1], "since": 0} == {
            "count": 1,
            "since": 0,
            "can_evict": True,
            "can_start": True,
            "seen_change": 1.0,
            "seen_refusal": None,
        }
        assert asked <= waiting[1]["since"] <= time.time()
        watch = Stopwatch()
    await wait_until(lambda: not listener.last["waiting"])
    assert watch.worked_s < 0.15


@pytest.mark.timed
async def test_mere_counts_are_reported_a_few_times_a_second(
    reporting: Gateway, listener: Listener, upstream: Upstream
) -> None:
    await reporting.set_routes(make_route(upstream))
    await asyncio.sleep(0.3)
    before = len(listener.reports)
    end = time.monotonic() + 1
    while time.monotonic() < end:
        await reporting.ask()
    assert 2 <= len(listener.reports) - before <= 7


async def test_a_process_that_ends_says_good_bye(valkey: Valkey, listener: Listener, redis: Redis) -> None:
    async with Gateway(redis_url=valkey.url) as gateway:
        await gateway.set_routes(make_route(state="ready", host="127.0.0.1", port=1))
        await wait_until(lambda: listener.last.get("in_flight"))
    await wait_until(lambda: listener.last["in_flight"] == {})
    assert await redis.keys("corral:gateway:*") == []


async def test_reports_go_on_after_valkey_was_away(valkey: Valkey, upstream: Upstream) -> None:
    async with Gateway(redis_url=valkey.url) as gateway:
        await gateway.set_routes(make_route(upstream))
        await asyncio.sleep(0.1)
        valkey.stop()
        await asyncio.sleep(0.5)
        assert (await gateway.ask()).status_code == 200
        assert (await gateway.ask()).status_code == 200
        lookups = len(gateway.lookups)
        valkey.start()
        async with Redis.from_url(valkey.url) as redis:
            reports = redis.pubsub()
            await reports.subscribe("corral:gateway")
            async with asyncio.timeout(60):
                kinds = [(await anext(reports.listen()))["type"] for _ in range(2)]
            assert kinds == ["subscribe", "message"]
            await reports.aclose()
        # Events may have been lost meanwhile, so nothing remembered is believed.
        await gateway.ask()
        assert len(gateway.lookups) == lookups + 1
