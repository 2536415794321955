"""Short requests that come in parts: most clients send head and body apart, and go the short way all the same."""

from __future__ import annotations

import asyncio

import pytest

from portal import http_protocol
from tests.gateway.harness import Gateway, RawClient, Upstream, wait_until
from tests.gateway.short_way import warm

pytestmark = pytest.mark.any_database

BODY = b'{"model":"m"}'


def make_head(length: int, *headers: str, key: str = "corral-test-key") -> bytes:
    lines = ["POST /v1/chat/completions HTTP/1.1", "Host: a", f"Authorization: Bearer {key}", *headers]
    return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a body as long as a slow machine needs."""
    monkeypatch.setattr(http_protocol, "SOON_S", 60.0)


@pytest.mark.usefixtures("patience")
async def test_a_library_that_sends_head_and_body_apart(
    gateway: Gateway, upstream: Upstream, taken: list[bool]
) -> None:
    await warm(gateway, upstream)
    taken.clear()
    for _ in range(3):
        assert (await gateway.ask()).status_code == 200
    assert taken == [True] * 3


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("size", [1, 5, 64])
async def test_a_request_in_small_parts(client: RawClient, taken: list[bool], size: int) -> None:
    request = make_head(len(BODY)) + BODY
    for start in range(0, len(request), size):
        client.writer.write(request[start : start + size])
        await client.writer.drain()
        await asyncio.sleep(0.001)
    assert "200 OK" in await client.read_head()
    assert taken == [True]


@pytest.mark.usefixtures("patience")
async def test_a_body_and_the_next_request_in_one_part(client: RawClient, gateway: Gateway) -> None:
    client.writer.write(make_head(len(BODY)))
    await client.writer.drain()
    await asyncio.sleep(0.01)
    client.writer.write(BODY + make_head(len(BODY)) + BODY)
    for _ in range(2):
        head = await client.read_head()
        assert "200 OK" in head
        length = next(line for line in head.lower().split("\r\n") if line.startswith("content-length"))
        await client.reader.readexactly(int(length.partition(":")[2]))
    await wait_until(lambda: len(gateway.finished) == 2)


async def test_who_has_no_key_is_told_before_the_body_comes(gateway: Gateway) -> None:
    async with RawClient(gateway.port) as client:
        client.writer.write(make_head(100, key="unknown"))
        assert " 401 " in await client.read_head()


async def test_a_body_that_comes_late_is_served_in_a_task(client: RawClient, taken: list[bool]) -> None:
    client.writer.write(make_head(len(BODY)))
    await client.writer.drain()
    await asyncio.sleep(0.2)
    client.writer.write(BODY)
    assert "200 OK" in await client.read_head()
    assert taken == []


async def test_a_client_that_waits_for_100_continue_gets_it(client: RawClient) -> None:
    client.writer.write(make_head(len(BODY), "Expect: 100-continue"))
    assert "100 Continue" in await client.read_head()
    client.writer.write(BODY)
    assert "200 OK" in await client.read_head()


@pytest.mark.usefixtures("patience")
async def test_a_client_that_leaves_before_its_body_leaves_nothing(gateway: Gateway, client: RawClient) -> None:
    client.writer.write(make_head(len(BODY)))
    await client.writer.drain()
    await asyncio.sleep(0.05)
    client.writer.transport.abort()
    assert (await gateway.ask()).status_code == 200
    assert not gateway.app.activity.in_flight
