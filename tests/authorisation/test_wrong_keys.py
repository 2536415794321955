"""Whoever tries keys is slowed down by all parts of the application together; whoever has one notices nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from gateway.brake import BRAKE, DELAY_S, FREE_FAILURES, MAX_WAITING
from tests.authorisation.world import Answer, Portal
from tests.gateway.harness import wait_until

ROUTES = (
    "/v1/models",
    "/running",
    "/api/v1/version",
    "/api/v1/instances/alpha/logs?follow=true",
    "/logs",
    "/logs/stream",
    "/health",
)
SOCKET = "/ws/events?api_key=wrong"
ADDRESS = "203.0.113.9"
FROM = (b"x-forwarded-for", ADDRESS.encode())
WRONG = (b"x-api-key", b"wrong")

Guess = Callable[[str], Coroutine[Any, Any, Answer]]


@pytest.fixture
def behind_proxy(change_settings: Callable[..., None]) -> None:
    """Every connection comes from a proxy with another address: what it says of the client is what counts."""
    change_settings(trusted_proxies=["10.0.0.0/8"])


@pytest.fixture
async def guess(behind_proxy: None, portal: Portal) -> Guess:
    """Return a function that sends a wrong key from the one address."""
    await portal.freshen()
    return lambda path: portal.ask("GET", path, "anonymous", add=[FROM, WRONG])


@pytest.fixture
async def tried(guess: Guess, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """The address has tried so many keys that answers to it wait, for long, and no more of them may."""
    await asyncio.gather(*(guess("/api/v1/version") for _ in range(FREE_FAILURES)))
    monkeypatch.setattr(BRAKE, "_delay_s", 600)
    guesses = [asyncio.create_task(guess(ROUTES[number % len(ROUTES)])) for number in range(MAX_WAITING)]
    await wait_until(lambda: BRAKE._records[ADDRESS].waiting == MAX_WAITING)
    yield
    assert not any(task.done() for task in guesses)
    for task in guesses:
        task.cancel()
    await asyncio.gather(*guesses, return_exceptions=True)


async def test_answers_to_wrong_keys_come_late_wherever_the_first_ones_were_sent(guess: Guess, portal: Portal) -> None:
    for number in range(FREE_FAILURES):
        await guess(ROUTES[number % len(ROUTES)])
    assert BRAKE._records[ADDRESS].failures == FREE_FAILURES

    async def time_answer(path: str) -> tuple[int, float]:
        began = time.monotonic()
        return (await guess(path)).status, time.monotonic() - began

    async def time_closing() -> tuple[str, float]:
        began = time.monotonic()
        code = await portal.knock(SOCKET, "anonymous", add=[FROM], patience_s=30)
        return code, time.monotonic() - began

    closed, *answers = await asyncio.gather(time_closing(), *(time_answer(path) for path in ROUTES))
    assert closed[0] == "4401"
    assert [status for status, _ in answers] == [200 if path == "/health" else 401 for path in ROUTES]
    assert min(seconds for _, seconds in (closed, *answers)) >= DELAY_S * 0.9


async def test_where_too_many_wait_further_wrong_keys_are_refused_at_once(
    tried: None, guess: Guess, portal: Portal
) -> None:
    for path in ROUTES:
        answer = await guess(path)
        assert (answer.status, answer.headers["retry-after"]) == (429, "60"), path
        assert b"Too many wrong API keys" in answer.body
        assert b"alpha" not in answer.body
    assert await portal.knock(SOCKET, "anonymous", add=[FROM], patience_s=30) == "1013"
    assert (await guess("/api/v1/version")).headers["access-control-allow-origin"] == "*"


async def test_whoever_has_a_key_or_a_session_waits_for_nothing_that_others_of_the_address_have_sent(
    tried: None, portal: Portal
) -> None:
    for caller in ("management key", "admin"):
        for path in ROUTES:
            assert (await portal.ask("GET", path, caller, add=[FROM])).status == 200, (path, caller)
        assert await portal.knock("/ws/events", caller, add=[FROM], patience_s=2) == "open"
    assert (await portal.ask("GET", "/api/v1/version", "inference key", add=[FROM])).status == 401
    assert (await portal.ask("GET", "/api/v1/version", "anonymous", add=[FROM])).status == 401
    another = await portal.ask(
        "GET", "/api/v1/version", "anonymous", add=[(b"x-forwarded-for", b"203.0.113.10"), WRONG]
    )
    assert another.status == 401
