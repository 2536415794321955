"""Answers to those who try keys are slowed down; whoever has a valid key notices nothing of it."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from gateway.brake import DELAY_S, FREE_FAILURES, MAX_WAITING, Brake
from gateway.errors import GatewayError
from gateway.structs import Principal
from tests.gateway.harness import KEY, Gateway, wait_until
from tests.stalls import Stopwatch

pytestmark = pytest.mark.any_database


async def send_wrong_keys(gateway: Gateway, count: int, name: str = "guess") -> list[int]:
    guesses = [gateway.stranger.get("/v1/models", headers={"x-api-key": f"{name}-{number}"}) for number in range(count)]
    return [answer.status_code for answer in await asyncio.gather(*guesses)]


async def test_the_answer_to_a_wrong_key_comes_late_after_many(gateway: Gateway) -> None:
    assert await send_wrong_keys(gateway, FREE_FAILURES) == [401] * FREE_FAILURES
    began = time.monotonic()
    assert await send_wrong_keys(gateway, 1, "one more") == [401]
    assert time.monotonic() - began >= DELAY_S * 0.9


@pytest.mark.timed
async def test_a_valid_key_is_neither_refused_nor_delayed_by_wrong_ones_of_its_address(gateway: Gateway) -> None:
    await send_wrong_keys(gateway, FREE_FAILURES)
    guesses = asyncio.create_task(send_wrong_keys(gateway, MAX_WAITING, "more"))
    await wait_until(lambda: len(gateway.lookups) == FREE_FAILURES + MAX_WAITING)
    watch = Stopwatch()
    assert (await gateway.client.get("/v1/models")).status_code == 200  # never seen before
    gateway.app.runtime._keys.clear()
    assert (await gateway.client.get("/v1/models")).status_code == 200
    assert watch.worked_s < DELAY_S / 2
    assert await send_wrong_keys(gateway, 1, "too many") == [429]
    assert not guesses.done()
    assert await guesses == [401] * MAX_WAITING


async def test_a_key_that_was_valid_before_does_not_wait_behind_a_flood_of_made_up_ones(gateway: Gateway) -> None:
    assert (await gateway.client.get("/v1/models")).status_code == 200
    may_answer = threading.Event()
    running = most = 0
    lock = threading.Lock()
    find_principal = gateway.app.runtime._keys._look_up

    async def find_slowly(digest: str) -> Principal | None:
        nonlocal running, most
        if digest in known:
            return await find_principal(digest)
        with lock:
            running += 1
            most = max(most, running)
        await asyncio.to_thread(may_answer.wait)
        with lock:
            running -= 1
        return None

    known = set(gateway.lookups)
    gateway.app.runtime._keys._look_up = find_slowly
    flood = asyncio.create_task(send_wrong_keys(gateway, 8))
    try:
        await wait_until(lambda: running)
        gateway.app.runtime._keys.clear()
        async with asyncio.timeout(60):
            answer = await gateway.stranger.get("/v1/models", headers={"x-api-key": KEY})
        assert answer.status_code == 200
        assert not flood.done()
    finally:
        may_answer.set()
    assert await flood == [401] * 8
    assert most == 2


async def test_one_address_has_only_so_many_answers_waiting() -> None:
    brake = Brake(delay_s=30)
    for _ in range(FREE_FAILURES):
        await brake.hold_answer("10.0.0.1")
    waiting = [asyncio.create_task(brake.hold_answer("10.0.0.1")) for _ in range(MAX_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(GatewayError) as caught:
        await brake.hold_answer("10.0.0.1")
    assert (caught.value.status, caught.value.retry_after_s) == (429, 60)
    await brake.hold_answer("10.0.0.2")
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    again = asyncio.create_task(brake.hold_answer("10.0.0.1"))
    await asyncio.sleep(0)
    assert not again.done()
    again.cancel()
