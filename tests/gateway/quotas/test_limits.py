"""Quotas as clients meet them: one gateway and two, with a real Valkey that also dies."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import httpx
import pytest

from gateway.quotas import book
from tests.gateway.harness import MANAGEMENT_KEY, Call, Gateway, Upstream, Valkey, make_route, wait_until
from tests.gateway.quotas.conftest import Source, limited, make_quota, open_gateways, seconds_left

pytestmark = pytest.mark.any_database


async def answer_with_usage(call: Call) -> None:
    await call.read_body()
    body = b'{"choices":[],"usage":{"prompt_tokens":30,"completion_tokens":12,"total_tokens":42}}'
    await call.answer(body, "Content-Type: application/json")


def statuses(answers: list[httpx.Response]) -> list[int]:
    return [answer.status_code for answer in answers]


async def test_a_used_up_limit_refuses_with_the_headers_and_words_of_openai(upstream: Upstream, valkey: Valkey) -> None:
    quotas = (make_quota(limit=2), make_quota("tokens", limit=1000))
    async with open_gateways(upstream, valkey, Source(), *quotas) as (gateway,):
        first, second, third = [await gateway.ask() for _ in range(3)]

    assert statuses([first, second, third]) == [200, 200, 429]
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert first.headers["x-ratelimit-limit-tokens"] == "1000"
    assert first.headers["x-ratelimit-remaining-tokens"] == "1000"
    assert re.fullmatch(r"(\d+h)?(\d+m)?\d+(s|ms)", first.headers["x-ratelimit-reset-requests"])
    assert third.headers["x-ratelimit-remaining-requests"] == "0"
    assert 0 < int(third.headers["retry-after"]) <= 86_400
    assert third.headers["x-should-retry"] == "false"
    error = third.json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "quota_exceeded")
    assert error["message"].startswith("The limit of 2 requests per day of this key is used up. Try again in ")
    assert len(upstream.calls) == 2


async def test_a_limit_per_minute_is_a_rate_that_clients_may_wait_for(upstream: Upstream, valkey: Valkey) -> None:
    if seconds_left("minute") < 5:
        await asyncio.sleep(5)
    async with open_gateways(upstream, valkey, Source(), make_quota(window="minute", limit=0)) as (gateway,):
        refused = await gateway.ask()
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert "x-should-retry" not in refused.headers


async def test_who_has_no_limit_gets_no_headers_and_no_refusal_whatever_breaks(upstream: Upstream) -> None:
    async with Gateway() as gateway:  # without a Redis
        await gateway.set_routes(make_route(upstream))
        answer = await gateway.ask()
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")]


async def test_tokens_are_charged_when_the_answer_is_over(upstream: Upstream, valkey: Valkey) -> None:
    upstream.handler = answer_with_usage
    async with open_gateways(upstream, valkey, Source(), make_quota("tokens", limit=50)) as (gateway,):
        answers = [await gateway.ask() for _ in range(3)]
    assert statuses(answers) == [200, 200, 429]
    remaining = [answer.headers["x-ratelimit-remaining-tokens"] for answer in answers]
    assert remaining == ["50", "8", "0"]


async def test_what_reaches_no_instance_counts_nothing(upstream: Upstream, valkey: Valkey) -> None:
    async with open_gateways(upstream, valkey, Source(), make_quota(limit=2)) as (gateway,):
        for _ in range(3):
            assert (await gateway.client.get("/v1/models")).status_code == 200
            assert (await gateway.ask({"model": "nobody"})).status_code == 404
        answers = [await gateway.ask() for _ in range(3)]
    assert statuses(answers) == [200, 200, 429]


@pytest.mark.parametrize("unit", ["requests", "tokens"])
async def test_who_has_used_up_a_limit_still_sees_lists_and_figures(
    upstream: Upstream, valkey: Valkey, unit: str
) -> None:
    async with open_gateways(upstream, valkey, Source(), make_quota(unit, limit=0)) as (gateway,):
        lists = ("/v1/models", "/v1/models/m", "/models", "/running", "/metrics")
        answers = [await gateway.client.get(path) for path in lists]
        refused = await gateway.ask()
    assert statuses(answers[:4]) == [200] * 4
    assert answers[4].status_code != 429  # 503 where nothing was counted yet
    assert refused.status_code == 429


async def test_who_tries_keys_is_slowed_down_at_lists_too(upstream: Upstream, valkey: Valkey) -> None:
    async with open_gateways(upstream, valkey, Source()) as (gateway,):
        wrong = [gateway.stranger.get("/v1/models", headers={"x-api-key": f"wrong-{n}"}) for n in range(40)]
        answers = await asyncio.gather(*wrong)
    assert set(statuses(answers)) == {401, 429}


async def test_every_way_to_a_model_counts(upstream: Upstream, valkey: Valkey) -> None:
    source, quota = Source(), make_quota(limit=3)
    async with open_gateways(upstream, valkey, source, quota) as (gateway,):
        gateway.keys[MANAGEMENT_KEY] = limited(quota, kind="management")
        answers = [
            await gateway.client.get("/upstream/m/metrics"),
            await gateway.manager.get("/api/v1/instances/m/proxy/x"),
            await gateway.client.post("/completion", json={}),
            await gateway.client.get("/upstream/m/metrics"),
            await gateway.manager.get("/api/v1/instances/m/proxy/x"),
        ]
        handshake = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
        headers = {**handshake, "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}
        answers.append(await gateway.client.get("/v1/realtime?model=m", headers=headers))
    assert statuses(answers) == [200, 200, 200, 429, 429, 429]
    assert answers[4].json()["error"] == "quota_exceeded"
    assert answers[5].json()["error"]["code"] == "quota_exceeded"


async def test_two_processes_exceed_a_limit_by_no_more_than_one_interval(upstream: Upstream, valkey: Valkey) -> None:
    """Clients ask both at the pace of 200 a second; the limit is reached after seconds."""
    limit = 300
    async with open_gateways(upstream, valkey, Source(), make_quota(limit=limit), count=2) as gateways:
        admitted: list[float] = []
        began = time.monotonic()
        while time.monotonic() - began < 30 and not (len(admitted) >= limit and time.monotonic() - admitted[-1] > 1):
            answers = await asyncio.gather(*(gateway.ask() for gateway in gateways))
            admitted += [time.monotonic()] * statuses(answers).count(200)
            await asyncio.sleep(0.005)
        # What one process lets in before it hears of the other's: both at the same pace, so half of it too much.
        slack = max(sum(moment - 2 * book.INTERVAL_S <= other <= moment for other in admitted) for moment in admitted)
        assert limit <= len(admitted) <= limit + slack
        assert len(admitted) < limit * 1.5, "each process went by its own count"
        # Afterwards all agree on the very number.
        remaining = [(await gateway.ask()).headers["x-ratelimit-remaining-requests"] for gateway in gateways]
        assert remaining == ["0", "0"]


async def test_a_limit_is_exact_when_the_processes_take_turns(upstream: Upstream, valkey: Valkey) -> None:
    async with open_gateways(upstream, valkey, Source(), make_quota(limit=7), count=2) as gateways:
        admitted = 0
        for number in range(12):
            admitted += (await gateways[number % 2].ask()).status_code == 200
            await asyncio.sleep(3 * book.INTERVAL_S)
    assert admitted == 7


async def test_a_process_that_starts_later_knows_what_is_used(upstream: Upstream, valkey: Valkey) -> None:
    source = Source()
    async with open_gateways(upstream, valkey, source, make_quota(limit=3)) as (gateway,):
        assert statuses([await gateway.ask() for _ in range(2)]) == [200, 200]
    source.recorded["key:1:requests:day"] = 99  # Redis knows better
    async with open_gateways(upstream, valkey, source, make_quota(limit=3)) as (gateway,):
        assert statuses([await gateway.ask() for _ in range(2)]) == [200, 429]


async def test_after_redis_was_emptied_the_database_tells_what_is_used(upstream: Upstream, valkey: Valkey) -> None:
    source = Source()
    source.recorded["key:1:requests:day"] = 8
    async with open_gateways(upstream, valkey, source, make_quota(limit=10)) as (gateway,):
        answers = [await gateway.ask() for _ in range(3)]
    assert statuses(answers) == [200, 200, 429]


async def test_while_redis_is_away_the_database_is_asked_and_afterwards_nothing_is_forgotten(
    upstream: Upstream, valkey: Valkey
) -> None:
    source = Source()
    async with open_gateways(upstream, valkey, source, make_quota(limit=20), count=2) as gateways:
        assert statuses([await gateway.ask() for gateway in gateways for _ in range(4)]) == [200] * 8
        await asyncio.sleep(3 * book.INTERVAL_S)
        valkey.stop()
        source.recorded["key:1:requests:day"] = 8
        asked = source.asked
        await wait_until(lambda: source.asked > asked + 1, 30)
        assert statuses([await gateway.ask() for gateway in gateways for _ in range(2)]) == [200] * 4
        source.recorded["key:1:requests:day"] = 20  # what the others let in meanwhile
        asked = source.asked
        await wait_until(lambda: source.asked > asked + 3, 30)
        assert statuses([await gateway.ask() for gateway in gateways]) == [429, 429]
        source.recorded["key:1:requests:day"] = 12
        asked = source.asked
        await wait_until(lambda: source.asked > asked + 3, 30)  # sums only grow: nobody may still hold the larger one
        valkey.start()
        await wait_until_told(gateways, "8")


async def wait_until_told(gateways: list[Gateway], remaining: str) -> None:
    """Both say what is left; asking uses nothing, as the model is unknown."""
    async with asyncio.timeout(30):
        while True:
            answers = [await gateway.ask({"model": "nobody"}) for gateway in gateways]
            told = {int(answer.headers["x-ratelimit-remaining-requests"]) + 1 for answer in answers}
            if told == {int(remaining)}:
                return
            await asyncio.sleep(0.1)


async def test_when_nobody_can_tell_whoever_is_limited_is_refused_until_somebody_can(
    upstream: Upstream, valkey: Valkey
) -> None:
    source = Source()
    async with open_gateways(upstream, valkey, source, make_quota(limit=1000)) as (gateway,):
        assert (await gateway.ask()).status_code == 200
        source.error = RuntimeError("no database")
        valkey.stop()
        failed_at = time.monotonic()
        answer = await gateway.ask()
        while answer.status_code == 200:
            await asyncio.sleep(0.1)
            answer = await gateway.ask()
        assert time.monotonic() - failed_at < book.BELIEVED_S + 15
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "quota_unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert (await gateway.manager.post("/v1/chat/completions", json={"model": "m"})).status_code == 200
        valkey.start()
        await wait_for_status(gateway, 200)


async def wait_for_status(gateway: Gateway, status: int) -> None:
    async with asyncio.timeout(30):
        while True:
            if (await gateway.ask()).status_code == status:
                return
            await asyncio.sleep(0.1)


async def test_a_database_that_hangs_holds_up_nobody_while_redis_answers(upstream: Upstream, valkey: Valkey) -> None:
    source = Source()
    async with open_gateways(upstream, valkey, source, make_quota(limit=5)) as (gateway,):
        assert (await gateway.ask()).status_code == 200
        source.gate.clear()
        try:
            assert statuses([await gateway.ask() for _ in range(5)]) == [200] * 4 + [429]
        finally:
            source.gate.set()


async def test_a_new_day_and_a_new_month_begin_with_nothing_used(
    upstream: Upstream, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_year = 1_798_761_600.0  # 2027-01-01 00:00:00 UTC
    now = new_year - 86_400.5
    monkeypatch.setattr(book.QuotaBook.__init__, "__kwdefaults__", {"clock": lambda: now})
    day, month = make_quota(limit=2), make_quota(window="month", limit=3)
    async with open_gateways(upstream, valkey, Source(), day, month) as (gateway,):
        assert statuses([await gateway.ask() for _ in range(3)]) == [200, 200, 429]
        now += 1  # the last day of the year: the month's limit goes on
        assert statuses([await gateway.ask() for _ in range(2)]) == [200, 429]
        now += 86_400
        answers: list[Any] = [await gateway.ask() for _ in range(3)]
    assert statuses(answers) == [200, 200, 429]
    assert answers[0].headers["x-ratelimit-limit-requests"] == "2"
