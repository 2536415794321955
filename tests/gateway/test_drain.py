"""Two gateways as a supervisor sees them: an instance that stops gets no request once its drain is confirmed."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from gateway.structs import Snapshot
from instances.supervisor.reports import GatewayReports, listen
from tests.gateway.harness import CONFIG, Call, Gateway, Upstream, Valkey, make_route, wait_until
from tests.stalls import Stopwatch

pytestmark = pytest.mark.any_database

# So rarely that a test decides when routes are read.
RARELY = msgspec.structs.replace(CONFIG, refresh_interval_s=60.0)
STOPPED_AT = 50.5
STOPPING = make_route(state="stopping", state_changed_at=STOPPED_AT)


@pytest.fixture
async def reports(valkey: Valkey) -> AsyncIterator[GatewayReports]:
    """What a supervisor knows that has heard the web processes for a while."""
    reports = GatewayReports()
    async with Redis.from_url(valkey.url) as redis:
        task = asyncio.create_task(listen(redis, reports, "corral:wake:test", lambda: None))
        await wait_until(lambda: reports._connected_at is not None)
        await wait_until(lambda: reports.are_complete)
        yield reports
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def drain(reports: GatewayReports, since: float) -> None:
    """Wait as an actor does."""
    await wait_until(lambda: reports.is_drained(1, since, STOPPED_AT))


class Engine:
    """Notes when requests came, and holds each until `finish` is set."""

    def __init__(self, upstream: Upstream) -> None:
        self.finish = asyncio.Event()
        self.came_at: list[float] = []
        upstream.handler = self.handle

    async def handle(self, call: Call) -> None:
        self.came_at.append(time.monotonic())
        await call.read_body()
        await self.finish.wait()
        await call.answer(b"done")


async def test_a_stop_waits_for_requests_in_flight_in_both_processes_and_cuts_none(
    valkey: Valkey, upstream: Upstream, reports: GatewayReports
) -> None:
    engine = Engine(upstream)
    async with Gateway(redis_url=valkey.url) as first, Gateway(redis_url=valkey.url) as second:
        for gateway in (first, second):
            await gateway.set_routes(make_route(upstream))
        asking = [asyncio.create_task(gateway.ask()) for gateway in (first, second)]
        await wait_until(lambda: reports.in_flight(1) == 2)
        since = time.monotonic()
        for gateway in (first, second):
            await gateway.set_routes(STOPPING)
        await asyncio.sleep(0.5)
        assert not reports.is_drained(1, since, STOPPED_AT)
        engine.finish.set()
        assert [answer.text for answer in await asyncio.gather(*asking)] == ["done", "done"]
        since_end = Stopwatch()
        await drain(reports, since)
        assert since_end.worked_s < 0.3


async def test_a_process_whose_routes_are_a_moment_old_keeps_the_engine_alive_until_it_knows(
    valkey: Valkey, upstream: Upstream, reports: GatewayReports
) -> None:
    """It goes on forwarding between the stop and its own reading; the drain is confirmed only afterwards."""
    engine = Engine(upstream)
    engine.finish.set()
    async with Gateway(redis_url=valkey.url) as first, Gateway(redis_url=valkey.url) as second:
        for gateway in (first, second):
            await gateway.set_routes(make_route(upstream))
        await wait_until(lambda: len(reports.living()) == 2)
        since = time.monotonic()
        await first.set_routes(STOPPING)  # the second gets no news
        for _ in range(10):
            assert (await second.ask()).text == "done"
            assert not reports.is_drained(1, since, STOPPED_AT)
            await asyncio.sleep(0.05)
        await second.set_routes(STOPPING)
        await drain(reports, since)
        confirmed = time.monotonic()
        waiting = [asyncio.create_task(gateway.ask()) for gateway in (first, second) for _ in range(3)]
        await wait_until(lambda: sum(line.count for line in reports.waiting(1)) == 6)
        assert [moment for moment in engine.came_at if moment > confirmed] == []
        for gateway in (first, second):
            await gateway.set_routes(make_route(upstream, state_changed_at=60.0))
        assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {200}


class SlowGateway(Gateway):
    """Its readings see what is there when they begin, and end when what was `gate` then is open."""

    def __init__(self, redis_url: str) -> None:
        self.begun = 0
        self.gate = threading.Event()
        self.gate.set()
        super().__init__(RARELY, redis_url=redis_url)

    def _load_snapshot(self) -> Snapshot:
        snapshot, gate = Snapshot(routes=self.routes), self.gate
        self.begun += 1
        gate.wait(60)
        return snapshot


async def test_a_process_that_reads_right_now_how_it_was_before_the_stop_is_waited_for(
    valkey: Valkey, upstream: Upstream, reports: GatewayReports
) -> None:
    """Its reports don't name the instance, which was starting when it read last; a moment later it forwards to it."""
    engine = Engine(upstream)
    gateway = SlowGateway(valkey.url)
    gateway.routes = (make_route(state="starting"),)
    async with gateway:
        await wait_until(reports.living)
        gateway.routes = (make_route(upstream, state_changed_at=40.0),)
        begun = gateway.begun
        gateway.gate.clear()
        gateway.app.runtime.catch_up()
        await wait_until(lambda: gateway.begun > begun)  # it has seen "ready" and is on its way
        gateway.routes = (STOPPING,)
        since = time.monotonic()
        await asyncio.sleep(1.3)  # a heartbeat that doesn't name the instance
        assert not reports.is_drained(1, since, STOPPED_AT)
        reading, gateway.gate = gateway.gate, threading.Event()  # whatever is read next waits for its turn
        reading.set()
        await wait_until(lambda: gateway.app.runtime.routes.by_id[1].is_routable)
        asking = asyncio.create_task(gateway.ask())
        await wait_until(lambda: engine.came_at)
        assert not reports.is_drained(1, since, STOPPED_AT)
        gateway.gate.set()
        gateway.app.runtime.catch_up()
        await wait_until(lambda: gateway.app.runtime.routes.by_id[1].state == "stopping")
        await asyncio.sleep(0.5)
        assert not reports.is_drained(1, since, STOPPED_AT)
        engine.finish.set()
        assert (await asking).text == "done"
        await drain(reports, since)


async def test_an_older_reading_never_brings_a_route_back(valkey: Valkey, upstream: Upstream) -> None:
    """Two readings at once, for an event and for an unknown name: the older must not be the last to count."""
    gateway = SlowGateway(valkey.url)
    gateway.routes = (make_route(upstream),)
    async with gateway:
        states: list[str] = []
        routes = gateway.app.runtime.routes
        routes.add_listener(lambda: states.append(routes.by_id[1].state))
        begun = gateway.begun
        slow = gateway.gate = threading.Event()
        asking = asyncio.create_task(gateway.ask({"model": "unknown"}))  # reads the routes once more
        await wait_until(lambda: gateway.begun > begun)
        gateway.routes = (STOPPING,)
        gateway.gate = threading.Event()
        gateway.gate.set()
        gateway.app.runtime.catch_up()  # this reading is quick
        await asyncio.sleep(0.3)
        slow.set()
        assert (await asking).status_code == 404
        await wait_until(lambda: states)
        await asyncio.sleep(0.3)
        assert states[-1] == "stopping"
        assert "ready" not in states


async def test_a_process_that_has_just_begun_is_known_before_it_reads_its_first_routes(
    valkey: Valkey, upstream: Upstream, reports: GatewayReports
) -> None:
    gateway = SlowGateway(valkey.url)
    gateway.routes = (make_route(upstream),)
    gateway.gate.clear()
    routes, was_routable = gateway.app.runtime.routes, []
    routes.add_listener(lambda: was_routable.append(routes.by_id[1].is_routable))
    entering = asyncio.create_task(gateway.__aenter__())
    try:
        await wait_until(lambda: gateway.begun)  # it has read "ready" and serves nobody yet
        gateway.routes = (STOPPING,)
        since = time.monotonic()
        await wait_until(reports.living)
        assert not reports.is_drained(1, since, STOPPED_AT)
        assert not gateway.gate.is_set()
        gateway.gate.set()
        await entering
        assert was_routable[0]
        gateway.app.runtime.catch_up()
        await drain(reports, since)
    finally:
        gateway.gate.set()
        await entering
        await gateway.__aexit__()


async def test_a_process_that_ends_properly_is_not_waited_for(
    valkey: Valkey, upstream: Upstream, reports: GatewayReports
) -> None:
    async with Gateway(redis_url=valkey.url) as staying:
        async with Gateway(redis_url=valkey.url) as leaving:
            for gateway in (staying, leaving):
                await gateway.set_routes(make_route(upstream))
            await wait_until(lambda: len(reports.living()) == 2)
        since, watch = time.monotonic(), Stopwatch()
        await staying.set_routes(STOPPING)
        await drain(reports, since)
        assert watch.worked_s < 0.5


async def test_requests_during_a_storm_of_stops_never_reach_an_engine_after_its_drain(
    valkey: Valkey, upstream: Upstream, reports: GatewayReports
) -> None:
    """Both processes are asked all the time while the instance stops and comes back, their news at odd moments."""
    late: list[int] = []
    confirmed = False

    async def handle(call: Call) -> None:
        if confirmed:
            late.append(1)
        await call.read_body()
        await asyncio.sleep(0.002)
        await call.answer(b"done")

    upstream.handler = handle
    async with Gateway(redis_url=valkey.url) as first, Gateway(redis_url=valkey.url) as second:
        is_over = False
        answers: list[Any] = []

        async def keep_asking(gateway: Gateway) -> None:
            while not is_over:
                answers.append((await gateway.ask()).status_code)

        for gateway in (first, second):
            await gateway.set_routes(make_route(upstream, state_changed_at=1.0))
        clients = [asyncio.create_task(keep_asking(gateway)) for gateway in (first, second) for _ in range(4)]
        for turn in range(6):
            stopping = make_route(state="stopping", state_changed_at=10.0 + turn)
            since = time.monotonic()
            first.routes = (stopping,)
            await asyncio.sleep(0.03 * turn)
            second.routes = (stopping,)
            await wait_until(lambda: reports.is_drained(1, since, 10.0 + turn))  # noqa: B023
            confirmed = True
            await asyncio.sleep(0.1)
            confirmed = False
            for gateway in (second, first):
                gateway.routes = (make_route(upstream, state_changed_at=20.0 + turn),)
            count = len(answers)
            await wait_until(lambda: len(answers) > count + 20)  # noqa: B023
        is_over = True
        await asyncio.gather(*clients)
    assert late == []
    assert set(answers) == {200}
