"""Quotas and keys in a whole Corral with two web processes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from accounts.domain.windows import find_window
from gateway.quotas.book import INTERVAL_S
from tests.system.conftest import StackFactory
from tests.system.stack import Stack, poll

SETTLED_S = 5 * INTERVAL_S


def make_key(corral: Stack, **members: Any) -> dict[str, Any]:
    answer = corral.api.post("/api/v1/auth/keys", json={"name": "k", "permission_mode": "allow_all", **members})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def ask_until(corral: Stack, key: str, *, clients: int, seconds: float) -> Counter[int]:
    """Ask from several clients at once, a connection each, so that both processes are asked."""
    url = f"http://127.0.0.1:{corral.port}/v1/chat/completions"
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    counts: Counter[int] = Counter()
    end = time.monotonic() + seconds

    async def ask() -> None:
        while time.monotonic() < end:
            async with httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
                for _ in range(5):
                    counts[(await client.post(url, json=body)).status_code] += 1
            if counts[429] > 50:
                return

    await asyncio.gather(*(ask() for _ in range(clients)))
    return counts


def test_a_quota_holds_over_two_web_processes_under_load_and_over_a_restart(make_corral: StackFactory) -> None:
    corral = make_corral(web_workers="2")
    corral.run_now("m")
    left = find_window("day", time.time())[1] - time.time()
    if left < 300:
        pytest.skip("a new day begins in a moment")
    limit = 200
    key = make_key(corral, limits=[{"unit": "requests", "window": "day", "limit": limit}])

    counts = asyncio.run(ask_until(corral, key["key"], clients=8, seconds=60))

    assert set(counts) == {200, 429}
    # What the other process lets in within an interval: eight clients that ask one after another.
    assert limit <= counts[200] <= limit + 100, counts
    used = counts[200]
    time.sleep(SETTLED_S)
    assert set(asyncio.run(ask_until(corral, key["key"], clients=4, seconds=1))) == {429}
    shown = poll(
        lambda: [one for one in corral.api.get("/api/v1/quotas").json() if one["used"] == used],
        what="the endpoint tells what is used",
    )
    assert shown[0]["remaining"] == 0

    # The embedded Valkey comes back empty: the database remembers.
    corral.down()
    corral.up()
    corral.act("m", "start")
    corral.wait_for("m", "ready")
    assert set(asyncio.run(ask_until(corral, key["key"], clients=4, seconds=2))) == {429}


def test_a_rotated_and_a_revoked_key_die_within_a_second_in_every_process(make_corral: StackFactory) -> None:
    corral = make_corral(web_workers="2")
    corral.run_now("m")
    key = make_key(corral)

    def ask_once(secret: str) -> int:
        return httpx.get(f"{corral.api.base_url}/v1/models", headers={"X-API-Key": secret}, timeout=60).status_code

    def ask(secret: str) -> set[int]:
        """Ask on twenty connections: the kernel deals them out to both processes. They wait together: see the brake."""
        with ThreadPoolExecutor(20) as threads:
            return set(threads.map(ask_once, [secret] * 20))

    assert ask(key["key"]) == {200}
    rotated = corral.api.post(f"/api/v1/auth/keys/{key['id']}/rotate").json()
    time.sleep(1)
    assert (ask(key["key"]), ask(rotated["key"])) == ({401}, {200})
    corral.api.post(f"/api/v1/auth/keys/{key['id']}/revoke").raise_for_status()
    time.sleep(1)
    assert ask(rotated["key"]) == {401}


def test_when_a_key_was_used_is_kept_without_a_write_for_each_request(make_corral: StackFactory) -> None:
    corral = make_corral()
    corral.run_now("m")
    key = make_key(corral)
    began = int(time.time())
    corral.api.post("/v1/chat/completions", json={"model": "m"}, headers={"Authorization": f"Bearer {key['key']}"})

    def read() -> int | None:
        used: int | None = corral.api.get(f"/api/v1/auth/keys/{key['id']}").json()["last_used_at"]
        return used

    poll(read, what="the use is kept")
    assert began <= (read() or 0) <= time.time()


def test_a_key_that_reaches_no_instance_was_used_too(corral: Stack) -> None:
    keys = {kind: make_key(corral, kind=kind) for kind in ("inference", "management")}
    keys["health"] = make_key(corral, kind="management")
    asked = {"inference": "/v1/models", "management": "/api/v1/version", "health": "/health"}
    began = int(time.time())
    for kind, path in asked.items():
        headers = {"Authorization": f"Bearer {keys[kind]['key']}"}
        assert corral.api.get(path, headers=headers).status_code == 200

    def read_unused() -> set[str]:
        told = {key["id"]: key["last_used_at"] for key in corral.api.get("/api/v1/auth/keys").json()}
        return {kind for kind, key in keys.items() if not began <= (told[key["id"]] or 0) <= time.time()}

    poll(lambda: not read_unused(), what="all are kept")
    for key in keys.values():
        corral.api.delete(f"/api/v1/auth/keys/{key['id']}").raise_for_status()


def test_a_stream_that_the_client_leaves_early_is_charged_and_recorded_as_far_as_it_came(
    make_corral: StackFactory,
) -> None:
    corral = make_corral()
    corral.run_now("m", flags={"stream-tokens": 10_000, "every": 0.02})
    limit = 10_000
    key = make_key(corral, limits=[{"unit": "tokens", "window": "month", "limit": limit}])
    corral.api.headers["Authorization"] = f"Bearer {key['key']}"
    with corral.stream("m") as lines:
        seen = [line for line in (next(lines) for _ in range(60)) if "tok" in line]
    assert len(seen) >= 20

    def read_used() -> int:
        return limit - int(corral.chat("nobody").headers["x-ratelimit-remaining-tokens"])  # which uses nothing itself

    assert poll(read_used, what="it is charged") >= len(seen)
    corral.api.headers["Authorization"] = f"Bearer {corral.management_key}"
    cancelled = {"outcome": "cancelled"}
    rows = poll(lambda: corral.api.get("/api/v1/activity", params=cancelled).json(), what="the stream is recorded")
    assert (rows[0]["streamed"], rows[0]["tokens_are_floor"]) == (True, True)
    assert rows[0]["completion_tokens"] >= len(seen)
