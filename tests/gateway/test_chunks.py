"""Chunks that are sent on unparsed: whatever the pieces they come in, the client gets what a parser reads."""

from __future__ import annotations

import asyncio
import itertools
import random
import weakref

import msgspec
import pytest

from gateway.chunks import read_chunks
from portal.http_cycle import HttpCycle
from tests.gateway.harness import Call, Gateway, RawClient, Upstream, make_route, wait_until
from tests.gateway.test_direct import CHUNKED, build, no_garbage_collector, noting, read_answer

pytestmark = pytest.mark.any_database

LAST = b"0\r\n\r\n"


def frame(*pieces: bytes, form: bytes = b"%x") -> bytes:
    return b"".join(form % len(piece) + b"\r\n" + piece + b"\r\n" for piece in pieces)


@pytest.fixture
def unparsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was sent on unparsed."""
    known: list[bytes] = []
    write = HttpCycle.write_chunks

    def note(cycle: HttpCycle, data: bytes) -> bool:
        is_written = write(cycle, data)
        if is_written:
            known.append(data)
        return is_written

    monkeypatch.setattr(HttpCycle, "write_chunks", note)
    return known


def send(*pieces: bytes, pause_s: float = 0.02) -> Upstream:
    """An engine that answers with these pieces, each in its own moment."""

    async def stream(call: Call) -> None:
        await call.read_body()
        for piece in pieces:
            await call.write(piece)
            await asyncio.sleep(pause_s)

    upstream = Upstream()
    upstream.handler = stream
    return upstream


async def warm_key(gateway: Gateway) -> None:
    """Have the key known, so that requests go the short way."""
    assert (await gateway.client.get("/v1/models")).status_code == 200
    await wait_until(lambda: gateway.finished)
    gateway.finished.clear()


@pytest.mark.parametrize("form", [b"%x", b"%X"])
@pytest.mark.parametrize("pieces", [(b"a",), (b"a" * 26, b"b" * 171), (b"\r\n", b"0\r\n\r\n", b"x" * 70_000)])
def test_whole_chunks_are_read(pieces: tuple[bytes, ...], form: bytes) -> None:
    assert read_chunks(frame(*pieces, form=form)) == b"".join(pieces)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n",
        b"1\r\n",
        b"1\r\na",
        b"1\r\na\r",
        b"1\r\na\n\n",
        b"2\r\na\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\r\n1",
        b"1\r\na\r\n1\r\n",
        b"1\r\na\r\n\r\n",
        b"01\r\na\r\n",
        b"+1\r\na\r\n",
        b" 1\r\na\r\n",
        b"1 \r\na\r\n",
        b"0x1\r\na\r\n",
        b"1_0\r\n" + b"a" * 16 + b"\r\n",
        b"aB\r\n" + b"a" * 171 + b"\r\n",
        b"-1\r\na\r\n",
        b"1;a=b\r\na\r\n",
        b"g\r\na\r\n",
        b"\xb2\r\naa\r\n",
        b"000000001\r\na\r\n",
        b"1\r\na\r\n" * 100,
        b"fffffffff\r\na\r\n",
        LAST,
        b"1\r\na\r\n" + LAST,
        b"1\r\na\r\n0\r\nx: y\r\n\r\n",
    ],
)
def test_everything_else_is_left_to_the_parser(data: bytes) -> None:
    assert read_chunks(data) is None


async def test_a_stream_is_sent_on_unparsed(gateway: Gateway, taken: list[bool], unparsed: list[bytes]) -> None:
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5}}\n\n'
    pieces = [frame(b"data: %d\n\n" % number) for number in range(8)]
    pieces[4] += frame(b"data: two at once\n\n")
    async with send(CHUNKED + pieces[0], *pieces[1:], frame(usage), LAST) as upstream:
        await gateway.set_routes(make_route(upstream))
        await warm_key(gateway)
        async with RawClient(gateway.port) as client:
            client.writer.write(build())
            await client.read_head()
            body = await asyncio.wait_for(client.reader.readuntil(LAST), 30)
        await wait_until(lambda: gateway.finished)
    assert body == b"".join(pieces) + frame(usage) + LAST
    assert taken[-1]
    assert len(unparsed) >= 6
    exchange = gateway.finished[0]
    assert exchange.outcome == "answered"
    assert exchange.usage is not None
    assert (exchange.usage.prompt_tokens, exchange.usage.completion_tokens) == (7, 5)
    assert exchange.sent_bytes == len(b"data: 0\n\n") * 8 + len(b"data: two at once\n\n") + len(usage)


@pytest.mark.parametrize("seed", range(12))
async def test_a_stream_in_any_pieces_arrives_as_it_was_sent(
    gateway: Gateway, seed: int, unparsed: list[bytes], taken: list[bool]
) -> None:
    chance = random.Random(seed)
    chunks = [chance.randbytes(chance.choice((1, 2, 15, 16, 17, 300, 5000))) for _ in range(40)]
    data, cuts = CHUNKED, []
    for chunk in chunks:
        data += frame(chunk, form=chance.choice((b"%x", b"%x", b"%X", b"0%x", b"%x;a=b")))
        if chance.random() < 0.6:
            cuts.append(len(data))
        if chance.random() < 0.5:
            cuts.append(chance.randrange(len(data) + 1))
    data += LAST
    places = sorted({0, *cuts, len(data)})
    pieces = [data[begin:end] for begin, end in itertools.pairwise(places)]
    async with send(*pieces, pause_s=0.002) as upstream:
        await gateway.set_routes(make_route(upstream))
        await warm_key(gateway)
        async with RawClient(gateway.port) as client:
            for _ in range(2):  # the connections serve the next request too
                client.writer.write(build())
                assert await asyncio.wait_for(read_answer(client.reader), 30) == (200, b"".join(chunks))
        await wait_until(lambda: len(gateway.finished) == 2)
    assert taken[-2:] == [True, True]
    assert unparsed
    assert [exchange.sent_bytes for exchange in gateway.finished] == [len(b"".join(chunks))] * 2


async def test_a_size_in_two_pieces_is_one_size(gateway: Gateway, taken: list[bool]) -> None:
    inner = b"hello\r\nb\r\n" + b"x" * 11
    data = frame(b"a") + frame(inner)  # of which the second piece looks like two chunks
    cut = data.index(b"15\r\n") + 1
    async with send(CHUNKED + frame(b"z"), data[:cut], data[cut:], LAST) as upstream:
        await gateway.set_routes(make_route(upstream))
        await warm_key(gateway)
        async with RawClient(gateway.port) as client:
            client.writer.write(build())
            assert await asyncio.wait_for(read_answer(client.reader), 30) == (200, b"za" + inner)
    assert taken[-1]


@pytest.mark.parametrize("wrong", [b"+1\r\ny\r\n", b"0x1\r\ny\r\n", b"1\r\nyz\r\n", b"1 1\r\ny\r\n"])
async def test_what_is_no_chunk_ends_the_stream_and_does_not_reach_the_client(
    gateway: Gateway, wrong: bytes, taken: list[bool]
) -> None:
    async with send(CHUNKED + frame(b"x"), frame(b"x"), wrong, frame(b"z"), LAST) as upstream:
        await gateway.set_routes(make_route(upstream))
        await warm_key(gateway)
        async with RawClient(gateway.port) as client:
            client.writer.write(build())
            await client.read_head()
            body = await asyncio.wait_for(client.reader.read(), 30)
        await wait_until(lambda: gateway.finished)
    assert body.startswith(frame(b"x", b"x"))
    assert b"z" not in body
    assert not body.endswith(LAST)
    assert taken[-1]
    assert gateway.finished[0].outcome == "upstream_lost"


async def test_a_client_of_the_first_version_gets_no_chunks(gateway: Gateway, taken: list[bool]) -> None:
    async with send(CHUNKED + frame(b"a"), frame(b"b"), frame(b"c"), LAST) as engine:
        await gateway.set_routes(make_route(engine))
        await warm_key(gateway)
        async with RawClient(gateway.port) as client:
            client.writer.write(build().replace(b"HTTP/1.1", b"HTTP/1.0", 1))
            await client.read_head()
            assert await asyncio.wait_for(client.reader.read(), 30) == b"abc"
    assert taken[-1]


async def test_a_stream_that_goes_on_is_not_given_up(gateway: Gateway, unparsed: list[bytes]) -> None:
    pieces = [frame(b"%d" % number) for number in range(12)]
    async with send(CHUNKED + pieces[0], *pieces[1:], LAST, pause_s=0.1) as upstream:
        await gateway.set_routes(msgspec.structs.replace(make_route(upstream), idle_timeout_s=0.6))
        await warm_key(gateway)
        async with RawClient(gateway.port) as client:
            client.writer.write(build())
            await client.read_head()
            assert await asyncio.wait_for(client.reader.readuntil(LAST), 30) == b"".join(pieces) + LAST
    assert unparsed


async def test_an_engine_that_falls_silent_after_chunks_is_given_up(gateway: Gateway, unparsed: list[bytes]) -> None:
    silent = asyncio.Event()

    async def stream(call: Call) -> None:
        await call.read_body()
        await call.write(CHUNKED + frame(b"a"))
        for _ in range(3):
            await asyncio.sleep(0.05)
            await call.write(frame(b"b"))
        await silent.wait()

    async with Upstream() as upstream:
        upstream.handler = stream
        await gateway.set_routes(msgspec.structs.replace(make_route(upstream), idle_timeout_s=0.5))
        await warm_key(gateway)
        async with RawClient(gateway.port) as client:
            client.writer.write(build())
            await client.read_head()
            body = await asyncio.wait_for(client.reader.read(), 30)
        silent.set()
        await wait_until(lambda: gateway.finished)
    assert body == frame(b"a", b"b", b"b", b"b")
    assert len(unparsed) == 3
    assert gateway.finished[0].outcome == "upstream_lost"


@pytest.mark.parametrize("who", ["client", "engine"])
async def test_a_stream_that_breaks_off_leaves_nothing_for_the_garbage_collector(
    gateway: Gateway, who: str, unparsed: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    living: weakref.WeakSet[object] = weakref.WeakSet()
    broken = asyncio.Event()

    async def stream(call: Call) -> None:
        await call.read_body()
        await call.write(CHUNKED + frame(b"a"))
        await asyncio.sleep(0.05)
        await call.write(frame(b"b"))
        await broken.wait()

    async with Upstream() as upstream:
        upstream.handler = stream
        await gateway.set_routes(make_route(upstream))
        await warm_key(gateway)
        monkeypatch.setattr(HttpCycle, "__init__", noting(HttpCycle.__init__, living))
        with no_garbage_collector():
            async with RawClient(gateway.port) as client:
                client.writer.write(build())
                await client.read_head()
                await asyncio.wait_for(client.reader.readuntil(frame(b"b")), 30)
                if who == "engine":
                    await upstream.drop_connections()
                    await asyncio.wait_for(client.reader.read(), 30)
            await wait_until(lambda: gateway.finished)
            gateway.finished.clear()
            await wait_until(lambda: not living)
        broken.set()
    assert unparsed
