"""Those who try keys are slowed down; colleagues are not."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.brake import DELAY_S, FREE_FAILURES, MAX_WAITING, Brake
from gateway.errors import GatewayError
from tests.gateway.harness import Gateway

pytestmark = pytest.mark.no_database


async def test_wrong_keys_become_slow_and_known_keys_stay_quick(gateway: Gateway) -> None:
    assert (await gateway.client.get("/v1/models")).status_code == 200
    for number in range(FREE_FAILURES):
        wrong = await gateway.stranger.get("/v1/models", headers={"x-api-key": f"guess-{number}"})
        assert wrong.status_code == 401
    guess = asyncio.create_task(gateway.stranger.get("/v1/models", headers={"x-api-key": "one more"}))
    began = time.monotonic()
    assert (await gateway.client.get("/v1/models")).status_code == 200
    assert not guess.done()
    assert (await guess).status_code == 401
    assert time.monotonic() - began >= DELAY_S * 0.9


async def test_one_address_has_only_so_many_attempts_waiting() -> None:
    brake = Brake(delay_s=30)
    for _ in range(FREE_FAILURES):
        brake.note_failure("10.0.0.1")
    waiting = [asyncio.create_task(brake.slow_down("10.0.0.1")) for _ in range(MAX_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(GatewayError) as caught:
        await brake.slow_down("10.0.0.1")
    assert (caught.value.status, caught.value.retry_after_s) == (429, 60)
    await brake.slow_down("10.0.0.2")
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    again = asyncio.create_task(brake.slow_down("10.0.0.1"))
    await asyncio.sleep(0)
    assert not again.done()
    again.cancel()
