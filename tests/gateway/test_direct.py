"""What goes the short way, without a task: each test checks that it did."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from portal.http_cycle import HttpCycle
from portal.http_protocol import BoundedHttpProtocol
from tests.gateway.fake_engines import EagerCloser
from tests.gateway.harness import Call, Gateway, RawClient, Upstream, make_route, settle, wait_until
from tests.gateway.short_way import warm

pytestmark = pytest.mark.any_database

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer corral-test-key\r\n"


def build(mark: str = "", *headers: bytes, size: int = 0) -> bytes:
    body = b'{"model":"m","mark":"%b%b"}' % (mark.encode(), b" " * size)
    return HEAD + b"".join(b"%b\r\n" % header for header in headers) + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    body = b""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            body = await reader.readexactly(int(line[15:]))
        elif line == b"transfer-encoding: chunked":
            while size := int(await reader.readuntil(b"\r\n"), 16):
                body += await reader.readexactly(size)
                await reader.readexactly(2)
            await reader.readexactly(2)
    return int(head.split()[1]), body


async def echo_mark(call: Call) -> None:
    await call.answer((await call.read_body()).split(b'"mark":"')[1].split(b'"')[0].strip())


async def send_at_once(port: int, data: bytes) -> socket.socket:
    """Connect, and have all of the data in the server's kernel before its process can read any of it."""
    plain = socket.create_connection(("127.0.0.1", port))
    await asyncio.sleep(0.2)  # it has been accepted
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    plain.sendall(data)
    time.sleep(0.1)  # noqa: ASYNC251  the server runs on this loop and shall find it all
    return plain


def reset(client: RawClient) -> None:
    plain = client.writer.get_extra_info("socket")
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.transport.abort()


@pytest.mark.parametrize("size", [0, 100_000], ids=["small", "larger than what makes reading pause"])
async def test_a_client_that_leaves_before_the_answer_closes_the_engine_s_connection(
    gateway: Gateway, upstream: Upstream, taken: list[bool], size: int
) -> None:
    closed = asyncio.Event()

    async def wait(call: Call) -> None:
        await call.read_body()
        await call.wait_closed()
        closed.set()

    upstream.handler = wait
    await warm(gateway, upstream)
    taken.clear()
    with await send_at_once(gateway.port, build(size=size)):
        await wait_until(lambda: upstream.calls)
        assert taken == [True]
    await asyncio.wait_for(closed.wait(), 30)
    await wait_until(lambda: gateway.finished)
    assert [exchange.outcome for exchange in gateway.finished] == ["cancelled"]
    assert gateway.app.activity.in_flight == {}


async def test_a_client_that_leaves_with_a_second_request_in_line_is_noticed(
    gateway: Gateway, upstream: Upstream, taken: list[bool]
) -> None:
    closed = asyncio.Event()

    async def wait(call: Call) -> None:
        await call.read_body()
        await call.wait_closed()
        closed.set()

    upstream.handler = wait
    await warm(gateway, upstream)
    taken.clear()
    with await send_at_once(gateway.port, build("a") + build("b")):
        await wait_until(lambda: upstream.calls)
        assert taken == [True]
    await asyncio.wait_for(closed.wait(), 30)
    await wait_until(lambda: gateway.finished)
    assert len(upstream.calls) == 1


@pytest.mark.parametrize("first", [CHUNKED, CHUNKED + b"1\r\nx\r\n"], ids=["after the head", "in the stream"])
async def test_a_client_that_is_cut_off_in_an_answer_closes_the_engine_s_connection(
    gateway: Gateway, upstream: Upstream, client: RawClient, taken: list[bool], first: bytes
) -> None:
    closed = asyncio.Event()

    async def begin(call: Call) -> None:
        await call.read_body()
        await call.write(first)
        await call.wait_closed()
        closed.set()

    upstream.handler = begin
    client.ask()
    await client.read_head()
    assert taken == [True]
    reset(client)
    await asyncio.wait_for(closed.wait(), 30)
    await wait_until(lambda: gateway.finished)
    assert [exchange.outcome for exchange in gateway.finished] == ["cancelled"]


async def test_an_instance_that_can_not_be_dialled_is_a_502(gateway: Gateway, upstream: Upstream) -> None:
    await warm(gateway, upstream)
    with socket.socket() as bound:  # and not listening
        bound.bind(("127.0.0.1", 0))
        await gateway.set_routes(make_route(port=bound.getsockname()[1], state="ready", host="127.0.0.1"))
        async with RawClient(gateway.port) as client:
            client.ask()
            status, body = await asyncio.wait_for(read_answer(client.reader), 30)
            assert (status, b"can't be reached" in body) == (502, True)
            await gateway.set_routes(make_route(upstream))
            client.writer.write(build())  # the connection is none the worse for it
            assert (await asyncio.wait_for(read_answer(client.reader), 30))[0] == 200
    await wait_until(lambda: len(gateway.finished) == 2)
    assert [exchange.outcome for exchange in gateway.finished] == ["refused", "answered"]
    assert gateway.app.activity.in_flight == {}


async def test_a_client_that_leaves_while_the_instance_is_dialled_ends_that(
    gateway: Gateway, upstream: Upstream, taken: list[bool], deaf_port: int
) -> None:
    await warm(gateway, upstream)
    taken.clear()
    await gateway.set_routes(make_route(port=deaf_port, state="ready", host="127.0.0.1", connect_timeout_s=600))
    async with RawClient(gateway.port) as client:
        client.ask()
        await wait_until(lambda: gateway.app.activity.in_flight)
        assert taken == [True]
    await wait_until(lambda: gateway.finished)
    assert [exchange.outcome for exchange in gateway.finished] == ["cancelled"]
    assert gateway.app.activity.in_flight == {}


async def test_the_head_of_an_answer_with_trailers_does_not_wait_for_its_body(
    upstream: Upstream, client: RawClient, taken: list[bool]
) -> None:
    seen = asyncio.Event()

    async def begin(call: Call) -> None:
        await call.read_body()
        await call.write(b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n")
        await seen.wait()
        await call.write(b"2\r\nab\r\n0\r\nX-Sum: 3\r\n\r\n")

    upstream.handler = begin
    client.ask()
    assert "200 OK" in await asyncio.wait_for(client.read_head(), 30)
    seen.set()
    assert (await client.reader.readuntil(b"\r\n\r\n")).lower() == b"2\r\nab\r\n0\r\nx-sum: 3\r\n\r\n"
    assert taken == [True]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: a\r\n\r\n" + CHUNKED + b"1\r\na\r\n0\r\n\r\n",
            (200, b"a"),
        ),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"")),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", (304, b"")),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", (200, b"until the end")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb", (200, b"a")),
        (b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 1\r\n\r\na", (502, None)),
        (b"nonsense\r\n\r\n", (502, None)),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", (502, None)),
        (b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n", (502, None)),
        (b"", (502, None)),
    ],
    ids=["interim", "204", "304", "no length", "two", "line break", "nonsense", "upgrade", "999", "nothing"],
)
@pytest.mark.parametrize("is_split", [False, True], ids=["at once", "byte by byte"])
async def test_whatever_an_engine_answers_is_answered_once_and_accounted_once(
    gateway: Gateway,
    upstream: Upstream,
    client: RawClient,
    *,
    taken: list[bool],
    answer: bytes,
    expected: tuple[int, bytes | None],
    is_split: bool,
) -> None:
    async def reply(call: Call) -> None:
        await call.read_body()
        for piece in [answer[at : at + 1] for at in range(len(answer))] if is_split else [answer]:
            await call.write(piece)
            await asyncio.sleep(0)
        call.writer.close()

    upstream.handler = reply
    client.writer.write(build("a"))
    status, body = await asyncio.wait_for(read_answer(client.reader), 30)
    assert (status, body if expected[1] is not None else None) == expected
    assert taken == [True]
    assert len(upstream.calls) == 1
    upstream.handler = echo_mark
    client.writer.write(build("b"))  # the connection is none the worse for it
    assert await asyncio.wait_for(read_answer(client.reader), 30) == (200, b"b")
    await wait_until(lambda: len(gateway.finished) == 2)


async def test_an_engine_that_closes_idle_connections_never_shows_an_error(gateway: Gateway, taken: list[bool]) -> None:
    async with EagerCloser() as engine:
        await gateway.set_routes(make_route(port=engine.port, state="ready", host="127.0.0.1", upstream_key="k"))

        async def keep_asking(pause_s: float) -> None:
            async with RawClient(gateway.port) as client:
                for _ in range(60):
                    client.writer.write(build())
                    assert await asyncio.wait_for(read_answer(client.reader), 60) == (200, b"fine")
                    await asyncio.sleep(pause_s)

        await asyncio.gather(*(keep_asking(pause / 10_000) for pause in range(8)))
        assert engine.answered == 480
    assert taken.count(True) > 20
    await wait_until(lambda: len(gateway.finished) == 480)


@pytest.mark.parametrize("change", [{"first_byte_timeout_s": 1}, {"idle_timeout_s": 1}], ids=["head", "pause"])
async def test_an_engine_that_takes_too_long_is_given_up(
    gateway: Gateway, upstream: Upstream, client: RawClient, taken: list[bool], change: dict[str, int]
) -> None:
    is_pause = "idle_timeout_s" in change

    async def wait(call: Call) -> None:
        await call.read_body()
        await call.write(CHUNKED + b"1\r\nx\r\n" if is_pause else b"HTTP/1.1 102 Processing\r\n\r\n")
        await call.wait_closed()

    upstream.handler = wait
    await gateway.set_routes(make_route(upstream, **change))
    client.ask()
    assert ("200 OK" if is_pause else "504 ") in await asyncio.wait_for(client.read_head(), 30)
    if is_pause:
        assert await client.reader.read() == b"1\r\nx\r\n"
    await wait_until(lambda: gateway.finished)
    assert [exchange.outcome for exchange in gateway.finished] == ["upstream_lost" if is_pause else "refused"]
    assert taken == [True]


@pytest.mark.parametrize("leaves", [False, True], ids=["that reads at last", "that leaves"])
async def test_a_client_that_does_not_read_holds_up_nobody_and_not_much_memory(
    gateway: Gateway,
    upstream: Upstream,
    taken: list[bool],
    leaves: bool,
) -> None:
    size, written = 48 * 2**20, 0

    async def reply(call: Call) -> None:
        nonlocal written
        if b"slow" not in await call.read_body():
            await call.write(CHUNKED + b"1\r\nx\r\n" * 20 + b"0\r\n\r\n")
            return
        await call.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while written < size:
            await call.write(b"x" * 2**20)
            written += 2**20

    await warm(gateway, upstream, 3)
    taken.clear()
    upstream.handler = reply
    async with RawClient(gateway.port, receive_buffer=65536) as slow, RawClient(gateway.port) as quick:
        slow.writer.write(build("slow"))
        await slow.read_head()
        for _ in range(200):
            quick.writer.write(build("q"))
            assert await asyncio.wait_for(read_answer(quick.reader), 30) == (200, b"x" * 20)
        assert await settle(lambda: written) < 24 * 2**20
        assert all(taken)
        if not leaves:
            assert len(await slow.reader.readexactly(size)) == size
    await wait_until(lambda: len(gateway.finished) == 201)
    outcomes = [exchange.outcome for exchange in gateway.finished]
    assert outcomes == ["answered"] * 200 + ["cancelled" if leaves else "answered"]
    assert gateway.app.activity.in_flight == {}


async def test_answers_end_within_the_grace_of_a_stop_and_all_are_accounted(
    upstream: Upstream, taken: list[bool]
) -> None:
    go_on = asyncio.Event()

    async def reply(call: Call) -> None:
        is_endless = b"endless" in await call.read_body()
        await call.write(CHUNKED + b"1\r\nx\r\n")
        await (call.wait_closed() if is_endless else go_on.wait())
        await call.write(b"0\r\n\r\n")

    async with Gateway() as gateway:
        await gateway.set_routes(make_route(upstream))
        await warm(gateway, upstream, 2)
        taken.clear()
        upstream.handler = reply
        async with RawClient(gateway.port) as short, RawClient(gateway.port) as endless:
            short.writer.write(build("short"))
            endless.writer.write(build("endless"))
            await asyncio.gather(short.read_head(), endless.read_head())
            gateway._server.should_exit = True
            await asyncio.sleep(0.3)
            go_on.set()
            assert await short.reader.read() == b"1\r\nx\r\n0\r\n\r\n"
            assert await endless.reader.read() == b"1\r\nx\r\n"
            await gateway._task
    assert taken == [True, True]
    assert [exchange.outcome for exchange in gateway.finished] == ["answered", "cancelled"]
    assert gateway.app.activity.in_flight == {}


@pytest.mark.parametrize("idle", [1, 4])
async def test_requests_sent_together_are_answered_once_each_and_in_order(
    gateway: Gateway, upstream: Upstream, taken: list[bool], idle: int
) -> None:
    await warm(gateway, upstream, idle)
    taken.clear()
    upstream.handler = echo_mark
    listing = HEAD.replace(b"POST /v1/chat/completions", b"GET /v1/models") + b"\r\n"
    chunked = HEAD + b'Transfer-Encoding: chunked\r\n\r\nd\r\n{"model":"m",\r\na\r\n"mark":"c"\r\n1\r\n}\r\n0\r\n\r\n'
    async with RawClient(gateway.port) as client:
        client.writer.write(build("a") + listing + build("b") + chunked + build("d", b"Connection: close"))
        answers = [await asyncio.wait_for(read_answer(client.reader), 30) for _ in range(5)]
        assert await client.reader.read() == b""
    assert [status for status, _ in answers] == [200, 200, 200, 200, 200]
    assert [answers[number][1] for number in (0, 2, 3, 4)] == [b"a", b"b", b"c", b"d"]
    await wait_until(lambda: len(gateway.finished) == 5)
    assert True in taken
    assert len(upstream.calls) == 4
    assert gateway.app.activity.in_flight == {}


async def test_an_invalid_request_behind_one_in_work_is_refused_after_its_answer(
    upstream: Upstream, client: RawClient, taken: list[bool]
) -> None:
    upstream.handler = echo_mark
    client.writer.write(build("a") + b"nonsense\r\n\r\n")
    assert await asyncio.wait_for(read_answer(client.reader), 30) == (200, b"a")
    assert (await asyncio.wait_for(read_answer(client.reader), 30))[0] == 400
    assert await client.reader.read() == b""
    assert taken == [True]


async def test_nonsense_in_the_middle_of_a_stream_is_no_part_of_it(
    upstream: Upstream, client: RawClient, taken: list[bool]
) -> None:
    go_on = asyncio.Event()

    async def stream(call: Call) -> None:
        await call.read_body()
        await call.write(CHUNKED + b"1\r\nx\r\n")
        await go_on.wait()
        await call.write(b"1\r\ny\r\n0\r\n\r\n")

    upstream.handler = stream
    client.ask()
    await client.read_head()
    client.writer.write(b"nonsense\r\n\r\n")
    await asyncio.sleep(0.2)
    go_on.set()
    assert (await client.reader.readuntil(b"0\r\n\r\n")) == b"1\r\nx\r\n1\r\ny\r\n0\r\n\r\n"
    assert (await asyncio.wait_for(read_answer(client.reader), 30))[0] == 400
    assert taken == [True]


async def test_a_body_that_can_not_be_looked_through_is_answered(
    gateway: Gateway, upstream: Upstream, client: RawClient, taken: list[bool]
) -> None:
    await gateway.set_routes(make_route(upstream, backend_type="mlx_lm"))
    deep = b'{"model":"m","adapters":' + b"[" * 20_000 + b"]" * 20_000 + b"}"
    client.writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(deep) + deep)
    status, body = await asyncio.wait_for(read_answer(client.reader), 30)
    assert (status, b"adapters" in body or b"request" in body) == (400, True)
    assert upstream.calls == []


async def test_requests_that_wait_behind_others_go_on_their_connections(gateway: Gateway, upstream: Upstream) -> None:
    count, all_here = 40, asyncio.Event()

    async def wait_for_all(call: Call) -> None:
        await call.read_body()
        if len(upstream.calls) >= count:
            all_here.set()
        await all_here.wait()
        await call.answer(b"fine")

    async def ask_twice() -> list[tuple[int, bytes]]:
        async with RawClient(gateway.port) as client:
            client.writer.write(build("a") + build("b"))
            return [await asyncio.wait_for(read_answer(client.reader), 30) for _ in range(2)]

    await warm(gateway, upstream, count)
    connections = upstream.connection_count
    upstream.handler = wait_for_all
    assert await asyncio.gather(*(ask_twice() for _ in range(count))) == [[(200, b"fine")] * 2] * count
    assert upstream.connection_count == connections


async def test_what_a_connection_leaves_behind_needs_no_garbage_collector(
    gateway: Gateway, upstream: Upstream, client: RawClient, monkeypatch: pytest.MonkeyPatch, taken: list[bool]
) -> None:
    living: weakref.WeakSet[object] = weakref.WeakSet()
    for kind in (HttpCycle, BoundedHttpProtocol):
        monkeypatch.setattr(kind, "__init__", noting(kind.__init__, living))
    with no_garbage_collector():
        for _ in range(5):
            async with RawClient(gateway.port) as another:
                another.ask()
                assert (await asyncio.wait_for(read_answer(another.reader), 30))[0] == 200
        await wait_until(lambda: len(gateway.finished) == 5)
        gateway.finished.clear()
        await wait_until(lambda: not living)
    assert taken == [True] * 5


async def test_what_a_failed_dial_leaves_behind_needs_no_garbage_collector(
    gateway: Gateway, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, taken: list[bool]
) -> None:
    await warm(gateway, upstream)
    taken.clear()
    living: weakref.WeakSet[object] = weakref.WeakSet()
    monkeypatch.setattr(HttpCycle, "__init__", noting(HttpCycle.__init__, living))
    with no_garbage_collector(), socket.socket() as bound:  # and not listening
        bound.bind(("127.0.0.1", 0))
        await gateway.set_routes(make_route(port=bound.getsockname()[1], state="ready", host="127.0.0.1"))
        async with RawClient(gateway.port) as client:
            client.ask()
            assert (await asyncio.wait_for(read_answer(client.reader), 30))[0] == 502
        gateway.finished.clear()
        await wait_until(lambda: not living)
    assert taken == [True]


@contextmanager
def no_garbage_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def noting(init: Callable[..., None], living: weakref.WeakSet[object]) -> Callable[..., None]:
    def note(made: object, *args: object, **options: object) -> None:
        living.add(made)
        init(made, *args, **options)

    return note
