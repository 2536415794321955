"""What crosses the gateway, over real sockets."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator

import httpx
import pytest

from gateway.activity import Activity
from gateway.asgi import Message
from gateway.body import hold_body
from gateway.exchange import Exchange
from gateway.forward import Forwarder
from gateway.pool import ConnectionPool
from gateway.routes import RouteTable
from tests.gateway.harness import UPSTREAM_KEY, Call, Gateway, RawClient, Upstream, make_route, settle, wait_until
from tests.stalls import Stopwatch

pytestmark = pytest.mark.any_database

MEBIBYTE = 1024 * 1024


async def test_a_request_arrives_as_it_was_sent_except_for_the_model(gateway: Gateway, upstream: Upstream) -> None:
    await gateway.set_routes(make_route(upstream, served_model="/models/a.gguf"))
    body = b'{"seed":12345678901234567890, "model":"m","temperature":1.0,"b":2,"a":1}'
    answer = await gateway.ask(
        content=body, headers={"content-type": "text/plain", "x-extra": "yes"}, params={"q": "a b"}
    )
    seen = answer.json()
    assert answer.status_code == 200
    assert seen["method"] == "POST"
    assert seen["target"] == "/v1/chat/completions?q=a+b"
    assert seen["body"] == body.decode().replace('"m"', '"/models/a.gguf"')
    assert seen["headers"]["content-length"] == str(len(seen["body"]))
    assert seen["headers"]["x-extra"] == "yes"
    assert seen["headers"]["host"] == f"127.0.0.1:{upstream.port}"
    assert seen["headers"]["x-forwarded-for"] == "127.0.0.1"


@pytest.mark.parametrize("header", ["Authorization", "authorization", "X-Api-Key", "query"])
async def test_no_credential_of_the_client_reaches_the_engine(
    gateway: Gateway, upstream: Upstream, header: str
) -> None:
    """llamactl 11.2-24: keys of clients were forwarded."""
    key = next(iter(gateway.keys))
    headers, params = {"Cookie": f"sessionid={key}"}, {"a": "1"}
    if header == "query":
        params["api_key"] = key
    else:
        headers[header] = f"bEARER {key}" if header.lower() == "authorization" else key
    answer = await gateway.stranger.post("/v1/completions", json={"model": "m"}, headers=headers, params=params)
    assert answer.status_code == 200
    assert key not in answer.text
    assert answer.json()["headers"]["authorization"] == f"Bearer {UPSTREAM_KEY}"
    assert answer.json()["target"] == "/v1/completions?a=1"


async def test_a_prefix_of_the_engine_stands_before_every_path(gateway: Gateway, upstream: Upstream) -> None:
    await gateway.set_routes(make_route(upstream, path_prefix="/llm"))
    assert (await gateway.ask()).json()["target"] == "/llm/v1/chat/completions"


async def test_chunks_come_as_they_are_made(gateway: Gateway, upstream: Upstream) -> None:
    async def stream(call: Call) -> None:
        await call.read_body()
        await call.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(8):
            await call.write_chunk(b"data: %d\n\n" % number)
            await has_come.acquire()  # nothing is held back until more comes
        await call.write(b"0\r\n\r\n")

    has_come = asyncio.Semaphore(0)
    upstream.handler = stream
    async with gateway.client.stream("POST", "/v1/chat/completions", json={"model": "m"}) as answer:
        assert answer.headers["x-accel-buffering"] == "no"
        assert "content-length" not in answer.headers
        lags, watch = [], Stopwatch()
        async for chunk in answer.aiter_raw():
            assert chunk == b"data: %d\n\n" % len(lags)
            lags.append(watch.worked_s)
            watch = Stopwatch()
            has_come.release()
    assert len(lags) == 8
    assert sorted(lags)[4] < 0.02
    await wait_until(lambda: gateway.finished)
    assert gateway.finished[-1].outcome == "answered"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nX-Trailer: 1\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello",
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
        ),
    ],
    ids=["length", "chunked-with-trailer", "http-1.0", "until-close", "interim"],
)
async def test_every_way_to_delimit_an_answer_is_understood(
    gateway: Gateway, upstream: Upstream, answer: bytes
) -> None:
    async def reply(call: Call) -> None:
        await call.read_body()
        for byte in answer:  # in the smallest pieces TCP may deliver
            await call.write(bytes([byte]))
        if b"ength" not in answer and b"chunked" not in answer:
            call.writer.close()

    upstream.handler = reply
    for _ in range(2):
        got = await gateway.ask()
        assert (got.status_code, got.content) == (200, b"hello")
        assert "link" not in got.headers


@pytest.mark.parametrize(
    ("method", "head"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1234\r\nETag: x\r\n\r\n"),
    ],
)
async def test_answers_without_a_body_end_at_once(
    gateway: Gateway, upstream: Upstream, method: str, head: bytes
) -> None:
    upstream.handler = lambda call: call.write(head)
    for _ in range(2):
        answer = await gateway.manager.request(method, "/api/v1/instances/m/proxy/x")
        assert answer.status_code == int(head.split()[1])
        assert answer.content == b""
    if head.startswith(b"HTTP/1.1 200 OK\r\nContent-Length"):
        assert answer.headers["content-length"] == "1234"


async def test_an_unreachable_instance_is_answered_with_a_body(gateway: Gateway, upstream: Upstream) -> None:
    """llamactl 11.2-30: the 502 had no body."""
    await gateway.set_routes(make_route(upstream, port=1))
    answer = await gateway.ask()
    assert answer.status_code == 502
    assert answer.json()["error"] == {
        "message": "Instance m can't be reached: Connection refused",
        "type": "server_error",
        "code": "bad_gateway",
        "param": None,
    }
    assert gateway.finished[-1].status == 502


@pytest.mark.parametrize(
    "nonsense",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    ],
)
async def test_an_invalid_answer_is_a_bad_gateway(gateway: Gateway, upstream: Upstream, nonsense: bytes) -> None:
    async def reply(call: Call) -> None:
        await call.read_body()
        await call.write(nonsense)
        await call.wait_closed()

    upstream.handler = reply
    answer = await gateway.ask()
    assert answer.status_code == 502
    assert "invalid HTTP answer" in answer.json()["error"]["message"]


async def test_a_second_answer_to_one_request_is_given_to_nobody(gateway: Gateway, upstream: Upstream) -> None:
    async def reply(call: Call) -> None:
        await call.read_body()
        await call.answer(b"mine")
        await call.write(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nnot mine")

    upstream.handler = reply
    for _ in range(10):
        assert (await gateway.ask()).text == "mine"


@pytest.mark.parametrize("framing", ["chunked", "length", "until-reset"])
async def test_a_death_in_the_middle_of_an_answer_is_seen_by_the_client(
    gateway: Gateway, upstream: Upstream, framing: str
) -> None:
    heads = {
        "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
        "length": b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\npart",
        "until-reset": b"HTTP/1.0 200 OK\r\n\r\npart",
    }

    async def die(call: Call) -> None:
        await call.read_body()
        await call.write(heads[framing])
        await asyncio.sleep(0.05)
        if framing == "until-reset":
            # Closing with a linger time of 0 resets the connection, as the end of a killed container may.
            call.writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        call.writer.transport.abort()

    upstream.handler = die
    with pytest.raises(httpx.RemoteProtocolError):
        await gateway.ask()
    await wait_until(lambda: gateway.finished)
    assert gateway.finished[-1].outcome == "upstream_lost"


async def test_a_client_that_leaves_before_the_answer_closes_the_upstream(gateway: Gateway, upstream: Upstream) -> None:
    await check_departure(gateway, upstream, b"")


async def test_a_client_that_leaves_during_a_stream_closes_the_upstream(gateway: Gateway, upstream: Upstream) -> None:
    await check_departure(gateway, upstream, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")


async def check_departure(gateway: Gateway, upstream: Upstream, first: bytes) -> None:
    closed = asyncio.Event()

    async def answer_slowly(call: Call) -> None:
        await call.read_body()
        await call.write(first)
        await call.wait_closed()
        closed.set()

    upstream.handler = answer_slowly
    async with RawClient(gateway.port) as client:
        client.ask()
        if first:
            await client.read_head()
        await asyncio.sleep(0.2)
        assert gateway.app.activity.in_flight == {1: 1}
    since_left = Stopwatch()
    await closed.wait()
    assert since_left.worked_s < 0.1
    await wait_until(lambda: gateway.finished)
    assert gateway.finished[-1].outcome == "cancelled"
    assert gateway.app.activity.in_flight == {}


async def test_a_slow_reader_makes_the_engine_wait(gateway: Gateway, upstream: Upstream) -> None:
    written = 0

    async def pour(call: Call) -> None:
        nonlocal written
        await call.read_body()
        await call.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(128):
            await call.write_chunk(b"x" * MEBIBYTE)
            written += MEBIBYTE
        await call.write(b"0\r\n\r\n")

    upstream.handler = pour
    async with RawClient(gateway.port, receive_buffer=65536) as client:
        client.ask()
        await client.read_head()
        held = await settle(lambda: written)  # it doesn't go on while nobody reads
        # The buffers of four sockets and the gateway's own; the kernel lets them grow to some MiB.
        assert held < 24 * MEBIBYTE
        while written < 128 * MEBIBYTE:
            assert await client.reader.read(MEBIBYTE)


async def test_a_slow_engine_makes_an_upload_wait(gateway: Gateway, upstream: Upstream) -> None:
    go_on = asyncio.Event()

    async def sip(call: Call) -> None:
        await go_on.wait()
        async for _ in call.read_pieces():
            pass
        await call.answer(str(call.received).encode())

    upstream.handler = sip
    sent = 0

    async def upload(client: RawClient) -> None:
        nonlocal sent
        for _ in range(64):
            client.writer.write(b"y" * MEBIBYTE)
            await client.writer.drain()
            sent += MEBIBYTE

    async with RawClient(gateway.port) as client:
        key = list(gateway.keys)[1]
        client.send("PUT", "/api/v1/instances/m/proxy/up", f"Content-Length: {64 * MEBIBYTE}", key=key)
        uploading = asyncio.create_task(upload(client))
        assert await settle(lambda: sent) < 24 * MEBIBYTE
        go_on.set()
        await uploading
        assert "200 OK" in await client.read_head()
        assert await client.reader.readexactly(8) == str(64 * MEBIBYTE).encode()


async def test_an_upload_without_a_length_arrives_in_chunks(gateway: Gateway, upstream: Upstream) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(20):
            yield b"%d," % number
            await asyncio.sleep(0.002)

    answer = await gateway.manager.post("/api/v1/instances/m/proxy/up", content=pieces())
    assert answer.json()["body"] == "".join(f"{number}," for number in range(20))
    assert answer.json()["headers"]["transfer-encoding"] == "chunked"
    assert "content-length" not in answer.json()["headers"]


async def test_an_early_answer_ends_the_exchange_before_the_upload_does(gateway: Gateway, upstream: Upstream) -> None:
    async def refuse(call: Call) -> None:
        await call.answer(b"too large", status="413 Content Too Large")
        await call.wait_closed()

    upstream.handler = refuse
    async with RawClient(gateway.port) as client:
        key = list(gateway.keys)[1]
        client.send("POST", "/api/v1/instances/m/proxy/up", "Content-Length: 1000000", key=key)
        client.writer.write(b"z" * 1000)
        assert "413" in await client.read_head()
        assert await client.reader.readexactly(9) == b"too large"
    await wait_until(lambda: gateway.app.activity.in_flight == {})
    # The half-used connection is gone, the next request gets its own answer.
    upstream.handler = lambda call: call.answer(b"next")
    assert (await gateway.ask()).text == "next"
    assert upstream.connection_count == 2


async def test_a_client_that_leaves_during_an_upload_closes_the_upstream(gateway: Gateway, upstream: Upstream) -> None:
    closed = asyncio.Event()

    async def receive(call: Call) -> None:
        await call.wait_closed()
        closed.set()

    upstream.handler = receive
    async with RawClient(gateway.port) as client:
        key = list(gateway.keys)[1]
        client.send("POST", "/api/v1/instances/m/proxy/up", "Content-Length: 1000000", key=key)
        client.writer.write(b"z" * 1000)
        await wait_until(lambda: upstream.calls)
    since_left = Stopwatch()
    await closed.wait()
    assert since_left.worked_s < 0.1


async def test_the_web_server_answers_an_expectation_and_the_engine_never_sees_it(
    gateway: Gateway, upstream: Upstream
) -> None:
    async with RawClient(gateway.port) as client:
        client.send("POST", "/v1/chat/completions", "Expect: 100-continue", "Content-Length: 13")
        assert "100 Continue" in await client.read_head()
        client.writer.write(b'{"model":"m"}')
        assert "200 OK" in await client.read_head()
    assert "expect" not in upstream.calls[0].headers


async def test_many_requests_at_once_each_get_their_own_answer(gateway: Gateway, upstream: Upstream) -> None:
    async def reply(call: Call) -> None:
        await call.answer(await call.read_body())

    upstream.handler = reply
    bodies = [f'{{"model":"m","n":{number}}}' for number in range(200)]
    answers = await asyncio.gather(*(gateway.ask(content=body) for body in bodies))
    assert [answer.text for answer in answers] == bodies


@pytest.mark.parametrize("is_supported", [True, False])
async def test_trailers_are_passed_on_where_the_server_can_send_them(upstream: Upstream, is_supported: bool) -> None:
    async def reply(call: Call) -> None:
        await call.read_body()
        await call.write(b"HTTP/1.1 200 OK\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n")
        await call.write(b"2\r\nok\r\n0\r\nX-Sum: 7\r\nSet-Cookie: a=b\r\n\r\n")

    upstream.handler = reply
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"method": "POST", "path": "/x", "headers": [], "extensions": {"http.response.trailers": {}}}
    if not is_supported:
        del scope["extensions"]
    pool = ConnectionPool(connect_timeout_s=60, idle_timeout_s=1, max_idle=1)
    forwarder = Forwarder(pool, Activity(RouteTable(), on_drain=lambda: None))
    exchange = Exchange(scope, receive, send)
    await forwarder.forward(exchange, make_route(upstream), b"/x", b"", hold_body(b"{}"))
    pool.close()
    assert sent[1]["body"] == b"ok"
    if is_supported:
        assert sent[0]["trailers"] is True
        trailers = {"type": "http.response.trailers", "headers": [(b"x-sum", b"7")], "more_trailers": False}
        assert sent[2:] == [trailers]
    else:
        assert len(sent) == 2
        assert "trailers" not in sent[0]
