"""An engine whose answer's head has no end fills no memory."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable

import httpx
import pytest

from gateway.upstream import MAX_HEAD_BYTES
from tests.gateway.harness import Call, Gateway, Upstream, wait_until

pytestmark = pytest.mark.any_database

OK = b"HTTP/1.1 200 OK\r\n"


class Endless:
    """Writes its beginning and then the same piece until the connection breaks."""

    def __init__(self, upstream: Upstream, beginning: bytes, piece: bytes) -> None:
        self._beginning = beginning
        self._piece = piece
        self.written = 0
        self.is_cut_off = asyncio.Event()
        upstream.handler = self.handle

    async def handle(self, call: Call) -> None:
        await call.read_body()
        pieces: Iterable[bytes] = itertools.repeat(self._piece)
        try:
            for data in itertools.chain([self._beginning], pieces):
                await call.write(data)
                self.written += len(data)
        finally:
            self.is_cut_off.set()


@pytest.mark.parametrize(
    ("beginning", "piece"),
    [
        (OK, b"".join(b"x-%d: %s\r\n" % (number, b"y" * 90) for number in range(100))),
        (OK + b"x-long: ", b"y" * 10_000),
        (OK + b"x-", b"n" * 10_000),
        (b"HTTP/1.1 200 ", b"reason " * 1000),
        (b"", b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n" * 100),
    ],
    ids=["lines", "value", "name", "reason", "interim answers"],
)
async def test_an_endless_head_is_a_bad_gateway_and_cut_off(
    gateway: Gateway, upstream: Upstream, beginning: bytes, piece: bytes
) -> None:
    engine = Endless(upstream, beginning, piece)
    answer = await gateway.ask()
    assert answer.status_code == 502
    message = "Instance m gave no answer: the head of its answer took more than 256 KiB"
    assert answer.json()["error"]["message"] == message
    await engine.is_cut_off.wait()
    assert engine.written < MAX_HEAD_BYTES + 16 * 2**20  # what lay in the buffers of both sockets


async def test_endless_trailers_break_the_answer_off(gateway: Gateway, upstream: Upstream) -> None:
    head = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    engine = Endless(upstream, head + b"2\r\nok\r\n0\r\nx-trailer: ", b"y" * 10_000)
    with pytest.raises(httpx.RemoteProtocolError):
        await gateway.ask()
    await engine.is_cut_off.wait()
    await wait_until(lambda: gateway.finished)
    assert gateway.finished[-1].outcome == "upstream_lost"


async def test_a_long_head_and_a_much_longer_body_pass(gateway: Gateway, upstream: Upstream) -> None:
    async def answer_at_length(call: Call) -> None:
        await call.read_body()
        # Below what a client of the tests takes; the gateway would take more.
        await call.answer(b"z" * 3 * MAX_HEAD_BYTES, "x-long: " + "y" * 30_000)

    upstream.handler = answer_at_length
    for _ in range(3):
        answer = await gateway.ask()
        assert (answer.status_code, len(answer.content)) == (200, 3 * MAX_HEAD_BYTES)
        assert len(answer.headers["x-long"]) == 30_000
    assert upstream.connection_count == 1
