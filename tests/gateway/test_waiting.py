"""Requests to instances that aren't ready."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from gateway.structs import Principal, Snapshot
from tests.gateway.harness import CONFIG, KEY, Gateway, RawClient, Upstream, make_route, wait_until
from tests.stalls import Stopwatch

pytestmark = pytest.mark.any_database

STOPPED = make_route()


def waiting(gateway: Gateway) -> int:
    line = gateway.app.demand.report().get(1)
    return line.count if line else 0


async def start_asking(gateway: Gateway, count: int = 1) -> list[asyncio.Task]:
    """Requests for `m` that have joined the line."""
    tasks = [asyncio.create_task(gateway.ask()) for _ in range(count)]
    await wait_until(lambda: waiting(gateway) == count)
    return tasks


async def test_a_request_waits_until_its_instance_is_ready(gateway: Gateway, upstream: Upstream) -> None:
    """llamactl 11.2-4: only the request that began the start waited; the others failed."""
    await gateway.set_routes(STOPPED)
    before = time.time()
    asking = await start_asking(gateway, 5)
    line = gateway.app.demand.report()[1]
    assert before - 1 < line.since <= time.time()
    assert (line.can_start, line.can_evict) == (True, True)
    await gateway.set_routes(make_route(state="starting"))
    await asyncio.sleep(0.02)
    assert waiting(gateway) == 5
    await gateway.set_routes(make_route(upstream))
    assert [answer.status_code for answer in await asyncio.gather(*asking)] == [200] * 5
    assert waiting(gateway) == 0


async def test_a_crash_during_the_wait_answers_at_once_though_another_attempt_follows(gateway: Gateway) -> None:
    await gateway.set_routes(STOPPED)
    (asking,) = await start_asking(gateway)
    await gateway.set_routes(make_route(state="starting", state_changed_at=2.0))
    await gateway.set_routes(make_route(state="backoff", state_changed_at=3.0, reason="out of memory"))
    answer = await asking
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "instance_start_failed")
    assert "out of memory" in answer.json()["error"]["message"]


async def test_a_request_during_a_backoff_waits_for_the_next_attempt(gateway: Gateway, upstream: Upstream) -> None:
    await gateway.set_routes(make_route(state="backoff"))
    (asking,) = await start_asking(gateway)
    await gateway.set_routes(make_route(state="starting", state_changed_at=2.0))
    await gateway.set_routes(make_route(upstream))
    assert (await asking).status_code == 200


async def test_who_waits_for_a_start_is_told_when_somebody_stops_it(gateway: Gateway) -> None:
    await gateway.set_routes(STOPPED)
    (asking,) = await start_asking(gateway)
    await gateway.set_routes(make_route(state="starting", state_changed_at=2.0))
    await gateway.set_routes(make_route(state="stopping", state_changed_at=3.0, is_wanted=False))
    answer = await asking
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "instance_not_running")


async def test_a_restart_during_the_wait_is_waited_through(gateway: Gateway, upstream: Upstream) -> None:
    await gateway.set_routes(make_route(state="starting"))
    (asking,) = await start_asking(gateway)
    for number, state in enumerate(("stopping", "stopped", "starting")):
        await gateway.set_routes(make_route(state=state, state_changed_at=2.0 + number, is_wanted=True))
    await gateway.set_routes(make_route(upstream))
    assert (await asking).status_code == 200


async def test_an_instance_that_is_stopping_is_waited_for(gateway: Gateway, upstream: Upstream) -> None:
    await gateway.set_routes(make_route(state="stopping"))
    (asking,) = await start_asking(gateway)
    await gateway.set_routes(STOPPED)
    await asyncio.sleep(0.02)
    await gateway.set_routes(make_route(upstream))
    assert (await asking).status_code == 200


async def test_a_failed_start_answers_at_once_with_its_last_words(gateway: Gateway) -> None:
    """llamactl 11.2-5: a crash was not noticed, and the whole time-out waited for."""
    await gateway.set_routes(STOPPED)
    (asking,) = await start_asking(gateway)
    await gateway.set_routes(make_route(state="failed", state_changed_at=2.0, reason="error: no such file m.gguf"))
    answer = await asking
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "instance_start_failed"
    expected = "upstream not ready: Instance m failed to start: error: no such file m.gguf"
    assert answer.json()["error"]["message"] == expected
    assert answer.headers["x-should-retry"] == "false"


async def test_a_start_that_was_not_ready_in_time_is_told_in_llama_swaps_words(gateway: Gateway) -> None:
    """llama-swap 9-10: a health check that never succeeds."""
    await gateway.set_routes(STOPPED)
    (asking,) = await start_asking(gateway)
    reason = "The engine was not ready after 29.5 s."
    await gateway.set_routes(make_route(state="failed", state_changed_at=2.0, reason=reason))
    answer = await asking
    assert answer.status_code == 503
    message = answer.json()["error"]["message"]
    assert message.startswith("upstream health check timed out after 30s: Instance m failed to start")
    assert reason in message


async def test_an_earlier_failure_is_no_answer_to_a_new_request(gateway: Gateway, upstream: Upstream) -> None:
    old = make_route(state="failed", state_changed_at=time.time() + 3600, reason="long ago, by a clock that runs ahead")
    await gateway.set_routes(old)
    (asking,) = await start_asking(gateway)
    await gateway.set_routes(msgspec.structs.replace(old, served_model="changed meanwhile"))
    await asyncio.sleep(0.02)
    assert not asking.done()
    await gateway.set_routes(msgspec.structs.replace(old, state_changed_at=old.state_changed_at + 1, reason="just now"))
    answer = await asking
    assert answer.status_code == 503
    assert "just now" in answer.json()["error"]["message"]


async def test_a_refused_start_is_a_conflict_that_says_why(gateway: Gateway) -> None:
    await gateway.set_routes(make_route(refused_at=5.0, reason="an old refusal"))
    (asking,) = await start_asking(gateway)
    await gateway.set_routes(make_route(refused_at=6.0, reason="2 of 2 instances are running and busy"))
    answer = await asking
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "max_instances_reached"
    assert "2 of 2 instances" in answer.json()["error"]["message"]
    assert int(answer.headers["retry-after"]) > 0


async def test_waiting_ends_after_its_time(upstream: Upstream) -> None:
    config = msgspec.structs.replace(CONFIG, on_demand_start_timeout_s=0.2)
    async with Gateway(config) as gateway:
        await gateway.set_routes(STOPPED)
        watch = Stopwatch()
        answer = await gateway.ask()
        assert watch.wall_s >= 0.2
        assert watch.worked_s < 1
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "instance_start_timeout"
        assert "upstream health check timed out after 1s" in answer.json()["error"]["message"]
        assert int(answer.headers["retry-after"]) > 0
        assert waiting(gateway) == 0


async def test_an_instance_may_have_a_queue_timeout_of_its_own_and_says_what_it_waited_for(gateway: Gateway) -> None:
    reason = "Waiting for room: other must finish and stop first."
    await gateway.set_routes(make_route(queue_timeout_s=1, reason=reason))
    watch = Stopwatch()
    answer = await gateway.ask()
    assert watch.wall_s >= 1
    assert watch.worked_s < 2
    assert answer.json()["error"]["code"] == "instance_start_timeout"
    assert answer.json()["error"]["message"].endswith(f"within 1 seconds: {reason}")


async def test_an_instance_that_comes_and_goes_keeps_nobody_longer_than_the_queue_timeout(
    gateway: Gateway, upstream: Upstream
) -> None:
    """Whoever finds it gone again at its turn goes on waiting, but its time doesn't begin anew."""
    await gateway.set_routes(make_route(queue_timeout_s=1))
    (asking,) = await start_asking(gateway)
    table, watch = gateway.app.runtime.routes, Stopwatch()
    moment = 2.0
    while not asking.done() and watch.worked_s < 5:
        moment += 1
        stopped = make_route(queue_timeout_s=1, state_changed_at=moment)
        gateway.routes = (stopped,)
        table.replace(Snapshot(routes=(make_route(upstream, queue_timeout_s=1),)))
        table.replace(Snapshot(routes=(stopped,)))
        await asyncio.sleep(0.05)
    assert watch.wall_s > 0.9
    assert watch.worked_s < 2
    assert (await asking).status_code == 503
    assert upstream.calls == []


async def test_a_full_line_refuses_the_next_one(upstream: Upstream) -> None:
    async with Gateway(msgspec.structs.replace(CONFIG, queue_limit=3)) as gateway:
        await gateway.set_routes(STOPPED, make_route(name="other", instance_id=2))
        asking = await start_asking(gateway, 3)
        answer = await gateway.ask()
        assert answer.status_code == 429
        assert answer.json()["error"]["type"] == "rate_limit_error"
        assert answer.json()["error"]["message"].startswith("Too many requests")
        assert answer.headers["retry-after"] == "1"  # llama-swap 9-9
        other = asyncio.create_task(gateway.ask({"model": "other"}))
        await wait_until(lambda: 2 in gateway.app.demand.report())
        await gateway.set_routes(make_route(upstream), make_route(upstream, name="other", instance_id=2))
        assert {answer.status_code for answer in await asyncio.gather(*asking, other)} == {200}


async def test_an_instance_may_have_a_queue_limit_of_its_own_and_who_leaves_makes_room(
    gateway: Gateway, upstream: Upstream
) -> None:
    """llama-swap 9-9: a cancelled waiter frees its slot."""
    await gateway.set_routes(make_route(queue_limit=2))
    (asking,) = await start_asking(gateway)
    async with RawClient(gateway.port) as client:
        client.ask()
        await wait_until(lambda: waiting(gateway) == 2)
        assert (await gateway.ask()).json()["error"]["code"] == "queue_full"
    await wait_until(lambda: waiting(gateway) == 1)
    third = asyncio.create_task(gateway.ask())
    await wait_until(lambda: waiting(gateway) == 2)
    await gateway.set_routes(make_route(upstream))
    assert [(await one).status_code for one in (asking, third)] == [200, 200]


async def test_a_client_that_leaves_leaves_the_line(gateway: Gateway, upstream: Upstream) -> None:
    await gateway.set_routes(STOPPED)
    async with RawClient(gateway.port) as client:
        client.ask()
        await wait_until(lambda: waiting(gateway) == 1)
    await wait_until(lambda: waiting(gateway) == 0)
    await wait_until(lambda: gateway.finished)
    assert gateway.finished[-1].outcome == "cancelled"
    await gateway.set_routes(make_route(upstream))
    assert (await gateway.ask()).status_code == 200
    assert len(upstream.calls) == 1


async def test_a_key_that_may_not_start_waits_only_for_what_is_starting(gateway: Gateway, upstream: Upstream) -> None:
    gateway.keys[KEY] = Principal(kind="inference", instances=None, can_start=False, can_evict=False)
    for state in ("stopped", "failed"):
        await gateway.set_routes(make_route(state=state))
        answer = await gateway.ask()
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "permission_denied"
        loading = await gateway.client.get("/upstream/m/load")
        assert (loading.status_code, "this key may not start instances" in loading.text) == (403, True)
    await gateway.set_routes(make_route(state="starting"))
    (asking,) = await start_asking(gateway)
    line = gateway.app.demand.report()[1]
    assert (line.can_start, line.can_evict) == (False, False)
    await gateway.set_routes(make_route(upstream))
    assert (await asking).status_code == 200
    await gateway.set_routes(make_route(state="starting"))
    (asking,) = await start_asking(gateway)
    await gateway.set_routes(STOPPED)
    assert (await asking).status_code == 403


async def test_without_start_on_demand_a_stopped_instance_is_unavailable_and_a_starting_one_awaited(
    gateway: Gateway, upstream: Upstream
) -> None:
    await gateway.set_routes(make_route(on_demand_start=False))
    answer = await gateway.ask()
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "instance_not_running"
    await gateway.set_routes(make_route(state="starting", on_demand_start=False))
    (asking,) = await start_asking(gateway)
    await gateway.set_routes(make_route(upstream, on_demand_start=False))
    assert (await asking).status_code == 200


async def test_a_disabled_instance_is_unavailable_in_every_state(gateway: Gateway, upstream: Upstream) -> None:
    await gateway.set_routes(make_route(upstream, disabled=True))
    assert (await gateway.ask()).json()["error"]["code"] == "instance_disabled"
    await gateway.set_routes(STOPPED)
    (asking,) = await start_asking(gateway)
    await gateway.set_routes(make_route(disabled=True))
    assert (await asking).status_code == 503


async def test_an_instance_deleted_meanwhile_is_unknown(gateway: Gateway) -> None:
    await gateway.set_routes(STOPPED)
    (asking,) = await start_asking(gateway)
    await gateway.set_routes()
    assert (await asking).status_code == 404


async def test_an_instance_renamed_meanwhile_is_looked_for_anew(gateway: Gateway, upstream: Upstream) -> None:
    await gateway.set_routes(STOPPED)
    asking = await start_asking(gateway, 2)
    await gateway.set_routes(make_route(name="n"))
    assert {(await one).status_code for one in asking} == {404}
    await gateway.set_routes(STOPPED)
    (asking_alias,) = await start_asking(gateway)
    await gateway.set_routes(make_route(name="n", aliases=("m",)))
    await asyncio.sleep(0.05)
    assert waiting(gateway) == 1  # the name leads to it still
    await gateway.set_routes(make_route(name="n"), make_route(upstream, name="m", instance_id=2))
    assert (await asking_alias).status_code == 200
    assert waiting(gateway) == 0


async def test_a_key_revoked_during_the_wait_is_turned_away(gateway: Gateway, upstream: Upstream) -> None:
    await gateway.set_routes(STOPPED)
    (asking,) = await start_asking(gateway)
    gateway.keys.clear()
    gateway.app.runtime.catch_up()
    await gateway.set_routes(make_route(upstream))
    assert (await asking).status_code == 401
    assert upstream.calls == []


async def test_a_crash_and_quick_restart_keep_the_line_together(gateway: Gateway, upstream: Upstream) -> None:
    """Between the news that it is ready and the waiters' next step it may have stopped again."""
    await gateway.set_routes(STOPPED)
    asking = await start_asking(gateway, 3)
    ready, stopped = make_route(upstream), make_route(state="backoff", state_changed_at=3.0)
    table = gateway.app.runtime.routes
    gateway.routes = (stopped,)
    table.replace(Snapshot(routes=(ready,)))
    table.replace(Snapshot(routes=(stopped,)))
    await wait_until(lambda: waiting(gateway) == 3)
    await gateway.set_routes(ready)
    assert [answer.status_code for answer in await asyncio.gather(*asking)] == [200] * 3


async def test_large_bodies_are_held_up_to_the_limit_and_no_further(upstream: Upstream) -> None:
    async with Gateway(msgspec.structs.replace(CONFIG, max_body_bytes=1_000_000)) as gateway:
        await gateway.set_routes(make_route(upstream))
        body = b'{"model":"m","x":"' + b"x" * 999_000 + b'"}'
        assert (await gateway.ask(content=body)).json()["body"] == body.decode()
        assert (await gateway.ask(content=body + b" " * 1000)).status_code == 413

        async with RawClient(gateway.port) as client:
            client.send("POST", "/v1/chat/completions", "Transfer-Encoding: chunked")
            for _ in range(31):
                client.writer.write(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
            head = await client.read_head()
            assert "413" in head
            assert "connection: close" in head
            assert b"request_too_large" in await client.reader.read()
    assert len(upstream.calls) == 1
