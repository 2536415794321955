"""Instances that take only so many requests at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from redis import Redis as SyncRedis
from redis.asyncio import Redis

from gateway.broker import end_task
from gateway.config import GatewayConfig
from gateway.limits import Limits
from gateway.peers import Peers
from gateway.structs import Principal
from tests.gateway.harness import (
    CONFIG,
    KEY,
    PATIENT,
    Call,
    Gateway,
    RawClient,
    Upstream,
    Valkey,
    make_route,
    wait_until,
)
from tests.gateway.held_engine import Engine
from tests.stalls import Stopwatch

pytestmark = pytest.mark.any_database


@pytest.fixture
def engine(upstream: Upstream) -> Engine:
    return Engine(upstream)


def ask(gateway: Gateway, user: object = "", model: str = "m") -> asyncio.Task[Any]:
    return asyncio.create_task(gateway.ask({"model": model, "user": str(user)}))


def waiting(gateway: Gateway) -> int:
    line = gateway.app.demand.report().get(1)
    return line.count if line else 0


def places(gateway: Gateway) -> int:
    return gateway.app.demand.limits.report().get(1, 0)


async def test_one_more_than_the_limit_is_told_to_come_back_and_then_admitted(
    gateway: Gateway, upstream: Upstream, engine: Engine
) -> None:
    """llama-swap 9-9."""
    await gateway.set_routes(make_route(upstream, concurrency_limit=2))
    first = {ask(gateway), ask(gateway)}
    await wait_until(lambda: engine.now == 2)
    refused = await gateway.ask()
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    error = refused.json()["error"]
    assert (error["code"], error["type"]) == ("concurrency_limit", "rate_limit_error")
    assert error["message"].startswith("Too many requests")
    engine.finish()
    await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
    third = ask(gateway)
    await wait_until(lambda: engine.now == 2)
    engine.release()
    assert {(await asking).status_code for asking in (*first, third)} == {200}
    assert engine.most == 2
    assert places(gateway) == 0


async def test_two_requests_of_one_moment_never_take_one_place(
    gateway: Gateway, upstream: Upstream, engine: Engine
) -> None:
    await gateway.set_routes(make_route(upstream, concurrency_limit=3))
    asking = [ask(gateway) for _ in range(20)]
    await wait_until(lambda: sum(task.done() for task in asking) == 17)
    engine.release()
    codes = sorted([(await task).status_code for task in asking])
    assert codes == [200] * 3 + [429] * 17
    assert engine.most == 3


async def test_health_and_metadata_need_no_place_and_take_none(
    gateway: Gateway, upstream: Upstream, engine: Engine
) -> None:
    await gateway.set_routes(make_route(upstream, concurrency_limit=1))
    asking = ask(gateway)
    await wait_until(lambda: engine.now == 1)
    for path in (
        "/upstream/m/health",
        "/upstream/m/v1/models",
        "/upstream/m/props",
        "/props?model=m",
        "/slots?model=m",
    ):
        assert (await gateway.client.get(path)).status_code == 200, path
    assert (await gateway.client.post("/upstream/m/props", json={})).status_code == 429
    assert (await gateway.client.get("/upstream/m/v1/responses/1")).status_code == 429
    assert (await gateway.manager.post("/api/v1/instances/m/proxy/completion", json={})).status_code == 429
    assert (await gateway.client.post("/completion", json={})).status_code == 429  # nameless, the only one ready
    engine.release()
    assert (await asking).status_code == 200


async def test_a_path_that_only_ends_like_metadata_needs_a_place(
    gateway: Gateway, upstream: Upstream, engine: Engine
) -> None:
    await gateway.set_routes(make_route(upstream, concurrency_limit=1, backend_type="llama_cpp"))
    asking = ask(gateway)
    await wait_until(lambda: engine.now == 1)
    for path in (
        "/upstream/m/sleep/health",
        "/upstream/m/x/v1/models",
        "/upstream/m//health",
        "/v1/sleep/props?model=m",
    ):
        assert (await gateway.client.get(path)).status_code == 429, path
    assert (await gateway.manager.get("/api/v1/instances/m/proxy/sleep/health")).status_code == 429
    assert (await gateway.manager.get("/api/v1/instances/m/proxy/health")).status_code == 200
    assert (await gateway.client.get("/llama-cpp/m/slots")).status_code == 200
    engine.release()
    assert (await asking).status_code == 200


async def test_strangers_at_the_public_page_take_no_place_and_keep_nothing_busy(
    gateway: Gateway, upstream: Upstream
) -> None:
    arrived, finish = asyncio.Event(), asyncio.Event()

    async def hold(call: Call) -> None:
        await call.read_body()
        if call.method == "GET":
            arrived.set()
            await finish.wait()
        await call.answer(b"{}", "Content-Type: application/json")

    upstream.handler = hold
    await gateway.set_routes(make_route(upstream, concurrency_limit=1, backend_type="llama_cpp"))
    page = asyncio.create_task(gateway.stranger.get("/llama-cpp/m/"))
    await arrived.wait()
    assert places(gateway) == 0
    assert 1 not in gateway.app.activity.last_used
    assert (await gateway.ask()).status_code == 200
    finish.set()
    assert (await page).status_code == 200

    engine = Engine(upstream)
    asking = ask(gateway)
    await wait_until(lambda: engine.now == 1)
    assert (await gateway.stranger.get("/llama-cpp/m/")).status_code == 200
    engine.release()
    assert (await asking).status_code == 200


async def test_a_place_is_free_again_when_its_client_leaves_or_its_engine_fails(
    gateway: Gateway, upstream: Upstream, engine: Engine
) -> None:
    await gateway.set_routes(make_route(upstream, concurrency_limit=1))
    async with RawClient(gateway.port) as client:
        client.ask()
        await wait_until(lambda: engine.now == 1)
    await wait_until(lambda: places(gateway) == 0)

    async def break_off(call: Call) -> None:
        call.writer.close()

    upstream.handler = break_off
    assert (await gateway.ask()).status_code == 502
    upstream.handler = engine.handle
    engine.release()
    assert (await gateway.ask()).status_code == 200


async def test_a_key_revoked_while_it_waited_leaves_no_place_taken(
    gateway: Gateway, upstream: Upstream, engine: Engine
) -> None:
    await gateway.set_routes(make_route(concurrency_limit=1))
    asking = ask(gateway)
    await wait_until(lambda: waiting(gateway) == 1)
    gateway.keys.clear()
    gateway.app.runtime.catch_up()
    await gateway.set_routes(make_route(upstream, concurrency_limit=1))
    assert (await asking).status_code == 401
    assert places(gateway) == 0


async def test_those_who_waited_for_the_start_are_let_in_in_their_order_up_to_the_limit_and_never_refused(
    gateway: Gateway, upstream: Upstream, engine: Engine
) -> None:
    await gateway.set_routes(make_route(concurrency_limit=2))
    asking = []
    for number in range(6):
        asking.append(ask(gateway, number))
        await wait_until(lambda: waiting(gateway) == number + 1)  # noqa: B023
    await gateway.set_routes(make_route(upstream, concurrency_limit=2))
    await wait_until(lambda: engine.now == 2)
    assert waiting(gateway) == 4
    newcomer = await gateway.ask()
    assert (newcomer.status_code, newcomer.json()["error"]["code"]) == (429, "concurrency_limit")
    for done in range(1, 5):
        engine.finish()
        await wait_until(lambda: len(engine.order) == done + 2)  # noqa: B023
        assert engine.now == 2
    engine.release()
    assert [answer.status_code for answer in await asyncio.gather(*asking)] == [200] * 6
    assert set(engine.order[:2]) == {"0", "1"}  # at once, each over a connection of its own
    assert engine.order[2:] == ["2", "3", "4", "5"]
    assert engine.most == 2


async def test_a_waiter_that_leaves_the_line_lets_the_next_one_have_its_turn(
    gateway: Gateway, upstream: Upstream, engine: Engine
) -> None:
    await gateway.set_routes(make_route(concurrency_limit=1))
    first = ask(gateway, "first")
    await wait_until(lambda: waiting(gateway) == 1)
    async with RawClient(gateway.port) as leaver:
        leaver.ask()
        await wait_until(lambda: waiting(gateway) == 2)
        last = ask(gateway, "last")
        await wait_until(lambda: waiting(gateway) == 3)
        await gateway.set_routes(make_route(upstream, concurrency_limit=1))
        await wait_until(lambda: engine.order == ["first"])
    await wait_until(lambda: waiting(gateway) == 1)
    engine.release()
    assert [(await asking).status_code for asking in (first, last)] == [200, 200]
    assert engine.order == ["first", "last"]


async def test_a_stop_and_start_while_some_wait_for_a_place_keeps_their_order_and_refuses_nobody(
    gateway: Gateway, upstream: Upstream, engine: Engine
) -> None:
    await gateway.set_routes(make_route(concurrency_limit=1))
    asking = []
    for number in range(3):
        asking.append(ask(gateway, number))
        await wait_until(lambda: waiting(gateway) == number + 1)  # noqa: B023
    await gateway.set_routes(make_route(upstream, concurrency_limit=1, state_changed_at=2.0))
    await wait_until(lambda: engine.now == 1)
    for moment, state in ((3.0, "stopping"), (4.0, "stopped")):
        await gateway.set_routes(make_route(state=state, state_changed_at=moment, concurrency_limit=1))
    assert waiting(gateway) == 2
    assert gateway.app.demand.report()[1].seen_change == 4.0  # by which the supervisor starts it for them
    late = ask(gateway, "late")
    await wait_until(lambda: waiting(gateway) == 3)
    engine.finish()
    await gateway.set_routes(make_route(upstream, concurrency_limit=1, state_changed_at=5.0))
    engine.release()
    assert [(await one).status_code for one in (*asking, late)] == [200] * 4
    assert engine.order == ["0", "1", "2", "late"]


async def test_waiting_for_a_place_ends_after_the_queue_timeout(
    gateway: Gateway, upstream: Upstream, engine: Engine
) -> None:
    limited = {"concurrency_limit": 1, "queue_timeout_s": 1}
    await gateway.set_routes(make_route(**limited))
    asking = [ask(gateway), ask(gateway)]
    await wait_until(lambda: waiting(gateway) == 2)
    await gateway.set_routes(make_route(upstream, **limited))
    watch = Stopwatch()
    answer = await asking[1]
    assert watch.worked_s < 1.5
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "queue_timeout")
    assert int(answer.headers["retry-after"]) > 0
    engine.release()
    assert (await asking[0]).status_code == 200


# Over several processes


@asynccontextmanager
async def run_pair(
    valkey: Valkey, config: GatewayConfig = PATIENT, **routes: Any
) -> AsyncIterator[tuple[Gateway, Gateway]]:
    async with Gateway(config, redis_url=valkey.url) as first, Gateway(config, redis_url=valkey.url) as second:
        await wait_until(lambda: first.app.demand.limits.peers.are_there and second.app.demand.limits.peers.are_there)
        for gateway in (first, second):
            await gateway.set_routes(make_route(**routes))
        yield first, second


async def test_the_limit_holds_exactly_over_two_processes_that_race(
    valkey: Valkey, upstream: Upstream, engine: Engine
) -> None:
    ready: dict[str, Any] = {"upstream": upstream, "concurrency_limit": 4}
    async with run_pair(valkey, **ready) as (first, second):
        for _ in range(10):
            asking = [ask(gateway) for _ in range(8) for gateway in (first, second)]
            await wait_until(lambda: sum(task.done() for task in asking) == 12)  # noqa: B023
            assert engine.now == 4
            while engine.held:
                engine.finish()
            assert sorted([(await task).status_code for task in asking]) == [200] * 4 + [429] * 12
        assert engine.most == 4


async def test_a_place_that_one_process_frees_is_free_for_the_other_at_once(
    valkey: Valkey, upstream: Upstream, engine: Engine
) -> None:
    ready: dict[str, Any] = {"upstream": upstream, "concurrency_limit": 1}
    async with run_pair(valkey, **ready) as (first, second):
        engine.is_free = True
        for turn in range(50):
            answer = await (first, second)[turn % 2].ask()
            assert answer.status_code == 200, turn


async def test_newcomers_of_one_process_do_not_overtake_those_who_wait_in_the_other(
    valkey: Valkey, upstream: Upstream, engine: Engine
) -> None:
    async with run_pair(valkey, concurrency_limit=1) as (first, second):
        asking = [ask(first, number) for number in range(5)]
        await wait_until(lambda: waiting(first) == 5)
        ready = make_route(upstream, concurrency_limit=1)
        await second.set_routes(ready)
        await wait_until(lambda: second.app.demand.limits.peers.count_waiting(1) == 5)
        answer = await second.ask()
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "concurrency_limit")
        await first.set_routes(ready)

        async def keep_working() -> None:
            while True:
                await asyncio.sleep(0.01)
                if engine.held:
                    engine.finish()

        working = asyncio.create_task(keep_working())
        while not all(task.done() for task in asking):
            await second.ask({"model": "m", "user": "greedy"})
        working.cancel()
        assert {(await task).status_code for task in asking} == {200}
    assert "greedy" not in engine.order[:5]
    assert engine.most == 1


async def test_the_line_is_as_long_as_it_may_be_over_both_processes(valkey: Valkey, upstream: Upstream) -> None:
    async with run_pair(valkey, queue_limit=3) as (first, second):
        asking = [ask(first) for _ in range(3)]
        await wait_until(lambda: second.app.demand.limits.peers.count_waiting(1) == 3)
        answer = await second.ask()
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")
        assert answer.headers["retry-after"] == "1"  # llama-swap 9-9
        for gateway in (first, second):
            await gateway.set_routes(make_route(upstream))
        assert {(await task).status_code for task in asking} == {200}


async def test_places_of_a_process_that_died_are_free_after_its_heartbeat(
    valkey: Valkey, upstream: Upstream, engine: Engine
) -> None:
    ready: dict[str, Any] = {"upstream": upstream, "concurrency_limit": 1}
    async with Redis.from_url(valkey.url) as redis, run_pair(valkey, **ready) as (first, _second):
        # What a killed process leaves behind: a place, and a report that nobody renews.
        await redis.hset("corral:places:1", "dead-process", 1)
        await redis.set("corral:gateway:dead-process", '{"process":"dead-process"}', ex=1)
        assert (await first.ask()).status_code == 429
        await asyncio.sleep(1.1)
        engine.is_free = True
        assert (await first.ask()).status_code == 200
        assert await redis.hgetall("corral:places:1") == {}


async def test_a_lone_process_that_gets_company_has_its_places_counted(
    valkey: Valkey, upstream: Upstream, engine: Engine
) -> None:
    route = make_route(upstream, concurrency_limit=2)
    async with Gateway(PATIENT, redis_url=valkey.url) as first:
        await first.set_routes(route)
        asking = [ask(first), ask(first)]
        await wait_until(lambda: engine.now == 2)
        async with Gateway(PATIENT, redis_url=valkey.url) as second:
            await second.set_routes(route)
            with SyncRedis.from_url(valkey.url) as redis:  # the first has heard of the second, and told
                await wait_until(lambda: redis.hgetall("corral:places:1"))
            await wait_until(lambda: second.app.demand.limits.peers.are_there)
            assert (await second.ask()).status_code == 429
            engine.release()
            await asyncio.gather(*asking)
            assert (await second.ask()).status_code == 200
    assert engine.most == 2


async def test_without_redis_each_process_goes_by_what_it_knows_and_nobody_hangs(
    valkey: Valkey, upstream: Upstream, engine: Engine
) -> None:
    ready: dict[str, Any] = {"upstream": upstream, "concurrency_limit": 2}
    async with run_pair(valkey, **ready) as (first, second):
        valkey.stop()
        watch = Stopwatch()
        asking = [ask(gateway) for gateway in (first, second) for _ in range(4)]
        await wait_until(lambda: sum(task.done() for task in asking) == 4)
        assert watch.worked_s < 2
        engine.release()
        assert sorted([(await task).status_code for task in asking]) == [200] * 4 + [429] * 4
        engine.is_free, engine.most = False, 0
        valkey.start()
        limits = [gateway.app.demand.limits for gateway in (first, second)]
        await wait_until(lambda: all(one.peers.are_there and not one._is_failing for one in limits))
        asking = [ask(gateway) for gateway in (first, second) for _ in range(4)]
        await wait_until(lambda: sum(task.done() for task in asking) == 6)
        assert engine.most == 2
        engine.release()
        await asyncio.gather(*asking)


async def test_a_redis_that_hangs_keeps_no_request_waiting(valkey: Valkey, upstream: Upstream, engine: Engine) -> None:
    ready: dict[str, Any] = {"upstream": upstream, "concurrency_limit": 1}
    async with run_pair(valkey, CONFIG, **ready) as (first, second):
        assert valkey._process is not None
        engine.is_free = True
        for turn in range(2):
            valkey._process.send_signal(signal.SIGSTOP)
            try:
                watch = Stopwatch()
                assert (await first.ask()).status_code == 200, turn
                assert watch.worked_s < 1.5
            finally:
                valkey._process.send_signal(signal.SIGCONT)
            limits = [gateway.app.demand.limits for gateway in (first, second)]
            await wait_until(lambda: all(one.peers.are_there and not one._is_failing for one in limits))  # noqa: B023
            await asyncio.sleep(1.2)  # what was asked while it hung is carried out, and corrected
            assert (await second.ask()).status_code == 200, turn


async def test_a_place_granted_to_somebody_who_has_gone_is_given_back(valkey: Valkey) -> None:
    route = make_route(concurrency_limit=1)
    async with Redis.from_url(valkey.url) as redis:
        await redis.set("corral:gateway:other", '{"process":"other"}', ex=600)
        limits = Limits(Peers("this", lifetime_s=600), Redis.from_url(valkey.url), answer_within_s=60)
        running = asyncio.create_task(limits.run())
        await wait_until(lambda: limits.peers.are_there)
        for _ in range(20):
            asking = asyncio.create_task(limits.take(route))
            await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait((asking,))
            await wait_until(lambda: not limits._asked and not limits.report())
        assert await limits.take(route)
        assert await redis.hgetall("corral:places:1") == {b"this": b"1"}
        limits.give_back(1)
        await end_task(running)


async def test_the_rights_of_a_key_are_asked_before_the_limit(
    gateway: Gateway, upstream: Upstream, engine: Engine
) -> None:
    await gateway.set_routes(make_route(upstream, concurrency_limit=1))
    asking = ask(gateway)
    await wait_until(lambda: engine.now == 1)
    gateway.keys["limited"] = Principal(kind="inference", instances=frozenset([2]))
    answer = await gateway.stranger.post(
        "/v1/chat/completions", json={"model": "m"}, headers={"authorization": "Bearer limited"}
    )
    assert answer.status_code == 403
    engine.release()
    await asking


async def test_an_answer_that_comes_early_frees_its_place_when_the_exchange_is_over(
    upstream: Upstream, engine: Engine
) -> None:
    """The count is of requests in work: neither the refusals nor those over before count."""
    async with Gateway(msgspec.structs.replace(CONFIG, max_body_bytes=1000)) as gateway:
        await gateway.set_routes(make_route(upstream, concurrency_limit=1))
        engine.is_free = True
        for _ in range(5):
            assert (await gateway.ask(content=b'{"model":"m","x":"' + b"x" * 2000 + b'"}')).status_code == 413
            assert (await gateway.ask()).status_code == 200
        assert KEY in gateway.keys
        assert places(gateway) == 0
