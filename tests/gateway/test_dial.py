from __future__ import annotations

import asyncio

import pytest

from gateway.dial import Dial, UpstreamUnreachable
from tests.gateway.harness import Upstream

pytestmark = pytest.mark.any_database


async def test_there_is_a_connection(upstream: Upstream) -> None:
    connection = await Dial(("127.0.0.1", upstream.port), 30).finish()
    assert not connection.is_lost
    connection.abort()


async def test_nobody_waits_longer_than_the_limit(deaf_port: int) -> None:
    with pytest.raises(UpstreamUnreachable, match="in time") as caught:
        await asyncio.wait_for(Dial(("127.0.0.1", deaf_port), 0.05).finish(), 30)
    assert caught.value.is_timeout


async def test_an_attempt_can_be_ended_from_outside(deaf_port: int) -> None:
    dial = Dial(("127.0.0.1", deaf_port), 30)
    waiting = asyncio.create_task(dial.finish())
    await asyncio.sleep(0.05)
    dial.end()
    with pytest.raises(UpstreamUnreachable):
        await asyncio.wait_for(waiting, 30)
    dial.end()  # and once more does nothing


@pytest.mark.parametrize("is_ended_too", [False, True])
async def test_who_is_cancelled_while_dialling_is_cancelled(deaf_port: int, *, is_ended_too: bool) -> None:
    dial = Dial(("127.0.0.1", deaf_port), 30)
    waiting = asyncio.create_task(dial.finish())
    await asyncio.sleep(0.05)
    if is_ended_too:
        dial.end()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert waiting.cancelled()


@pytest.mark.parametrize(("host", "reason"), [("127.0.0.1", "Connection refused"), ("a" * 70, "host name")])
async def test_what_can_not_be_dialled_says_why(host: str, reason: str) -> None:
    with pytest.raises(UpstreamUnreachable, match=reason) as caught:
        await Dial((host, 1), 30).finish()
    assert not caught.value.is_timeout
