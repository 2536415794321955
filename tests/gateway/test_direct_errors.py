"""What goes wrong within the short way itself ends one request and nothing else."""

from __future__ import annotations

import asyncio

import pytest

from tests.gateway.harness import Call, Gateway, RawClient, Upstream, wait_until
from tests.gateway.short_way import warm
from tests.gateway.test_direct import read_answer

pytestmark = pytest.mark.any_database


async def test_an_error_in_looking_at_a_request_is_a_500_and_no_broken_connection(
    gateway: Gateway, client: RawClient, monkeypatch: pytest.MonkeyPatch, taken: list[bool]
) -> None:
    def fail(name: str) -> None:
        raise ArithmeticError(name)

    monkeypatch.setattr(gateway.app.runtime.routes, "resolve_model", fail)
    client.ask()
    assert (await asyncio.wait_for(read_answer(client.reader), 30))[0] == 500
    assert taken == [False]


@pytest.mark.parametrize("place", ["take_idle", "send"])
async def test_an_error_in_sending_a_request_on_is_a_500_and_no_endless_wait(
    gateway: Gateway, upstream: Upstream, taken: list[bool], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    await warm(gateway, upstream)
    taken.clear()

    def fail(*_: object) -> None:
        raise OSError("no file is left")

    async with RawClient(gateway.port) as client:
        with monkeypatch.context() as patch:
            patch.setattr(gateway.app._direct.forwarder, place, fail)
            client.ask()
            assert (await asyncio.wait_for(read_answer(client.reader), 30))[0] == 500
    await wait_until(lambda: gateway.finished)
    assert taken == [True]
    assert gateway.app.activity.in_flight == {}
    assert not gateway.app._direct.open


async def test_an_error_in_the_accounting_counts_no_request_twice(
    gateway: Gateway, upstream: Upstream, taken: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    await warm(gateway, upstream, 2)
    taken.clear()
    release = asyncio.Event()

    async def wait(call: Call) -> None:
        await call.read_body()
        if len(upstream.calls) == 1:
            await release.wait()
        await call.answer(b"fine")

    def fail(_: object) -> None:
        raise ArithmeticError

    upstream.handler = wait
    async with RawClient(gateway.port) as first, RawClient(gateway.port) as second:
        first.ask()
        await wait_until(lambda: len(upstream.calls) == 1)
        with monkeypatch.context() as patch:
            patch.setattr(gateway.app._direct, "conclude", fail)
            second.ask()
            assert await asyncio.wait_for(read_answer(second.reader), 30) == (200, b"fine")
        await asyncio.sleep(0.2)
        assert gateway.app.activity.in_flight == {1: 1}
        release.set()
        assert await asyncio.wait_for(read_answer(first.reader), 30) == (200, b"fine")
    assert taken == [True, True]
    assert gateway.app.activity.in_flight == {}
