"""The web server's HTTP: which requests become WebSockets, and that all others keep their bodies and their order."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.sync.client import connect as connect_waiting

from portal.refused_sockets import explain_refusal
from tests.portal.web import App, application, converse, read_all, read_until, serve, split, start, write

pytestmark = pytest.mark.any_database
LAST_GET = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
#: What Java's HttpClient and `curl --http2` send of their own accord.
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQBAAAAAAIAAAAA\r\nUpgrade: h2c\r\n"
JAVA = (
    b"POST /java HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: %d\r\nHost: 127.0.0.1:8080\r\n"
    b"HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA\r\nUpgrade: h2c\r\n"
    b"User-Agent: Java-http-client/21.0.5\r\nAuthorization: Bearer x\r\nContent-Type: application/json\r\n\r\n"
)
#: A body that would be a request by itself.
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /first HTTP/1.1\r\nHost: a\r\n" + H2C + b"Content-Length: %d\r\n\r\n" % len(SMUGGLED)
CHUNKED = b"POST /first HTTP/1.1\r\nHost: a\r\n" + H2C + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
VERSION = b"Sec-WebSocket-Version: 13\r\n"
UPGRADE = b"Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
HANDSHAKE = b"GET / HTTP/1.1\r\n" + UPGRADE + KEY + VERSION + b"\r\n"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the kind of request, its path and its body; WebSockets are accepted and echo one message."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        message = await receive()
        if message["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
            await send({"type": "websocket.close"})
        return
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    said = b"%b %b [%b]" % (scope["method"].encode(), scope["raw_path"], body)
    await start(send, 200, (b"content-length", b"%d" % len(said)))
    await write(send, said)


def bodies(answers: bytes) -> list[bytes]:
    """What `echo` answered to each request, in order."""
    return [split(answer)[1] for answer in answers.split(b"HTTP/1.1 200 OK\r\n")[1:]]


def converse_slowly(app: App, *pieces: bytes) -> bytes:
    """Like `converse`, but each piece is read by itself."""
    with serve(application(app)) as port, socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            client.sendall(piece)
            threading.Event().wait(0.05)
        return read_all(client)


@pytest.mark.parametrize(
    "pieces",
    [
        [POST + SMUGGLED + LAST_GET],
        [POST, SMUGGLED, LAST_GET],
        [POST, SMUGGLED + LAST_GET],
        [POST[:40], POST[40:90], POST[90:] + SMUGGLED[:7], SMUGGLED[7:] + LAST_GET[:9], LAST_GET[9:]],
        [CHUNKED + CHUNKS + LAST_GET],
        [CHUNKED, CHUNKS[:20], CHUNKS[20:], LAST_GET],
    ],
    ids=["at once", "one by one", "body with the next request", "in shreds", "chunks at once", "chunks in pieces"],
)
def test_an_upgrade_to_another_protocol_is_ignored_and_the_body_is_the_request_s(pieces: list[bytes]) -> None:
    assert bodies(converse_slowly(echo, *pieces)) == [b"POST /first [%b]" % SMUGGLED, b"GET /last []"]


def test_requests_with_such_upgrades_may_be_sent_together() -> None:
    get = b"GET /get HTTP/1.1\r\nHost: a\r\n" + H2C + b"\r\n"
    answers = bodies(converse(echo, (get + POST + SMUGGLED) * 50 + LAST_GET))
    assert answers == [b"GET /get []", b"POST /first [%b]" % SMUGGLED] * 50 + [b"GET /last []"]


def test_java_s_client_is_understood() -> None:
    body = b'{"model":"a"}'
    with serve(application(echo)) as port, socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        for _ in range(2):
            client.sendall(JAVA % len(body))
            client.sendall(body)
            assert split(read_until(client, b"]"))[1] == b"POST /java [%b]" % body


def test_a_large_body_of_such_a_request_arrives_whole() -> None:
    body = b"x" * 2**20
    answer = converse(echo, JAVA.replace(b"Upgrade, ", b"close, Upgrade, ") % len(body), body)
    assert split(answer)[1] == b"POST /java [%b]" % body


def test_the_application_sees_no_upgrade_that_was_ignored() -> None:
    seen: list[dict[bytes, bytes]] = []

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        seen.append(dict(scope["headers"]))
        await start(send)
        await write(send, b"")

    converse(answer, JAVA % 0 + LAST_GET)
    assert b"upgrade" not in seen[0]
    assert seen[0][b"authorization"] == b"Bearer x"
    assert len(seen[0]) == JAVA.count(b"\r\n") - 3


def with_length(request: bytes) -> bytes:
    """The same request with a body."""
    return request[:-2] + b"Content-Length: 3\r\n\r\nabc"


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (with_length(HANDSHAKE.replace(b"GET", b"POST")), b"POST / [abc]"),
        (HANDSHAKE.replace(b"GET", b"POST"), b"POST / []"),
        (with_length(HANDSHAKE), b"GET / [abc]"),
        (HANDSHAKE[:-2] + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"GET / [abc]"),
        (HANDSHAKE.replace(KEY, b""), b"GET / []"),
        (HANDSHAKE.replace(KEY, KEY * 2), b"GET / []"),
        (HANDSHAKE.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"short"), b"GET / []"),
        (HANDSHAKE.replace(VERSION, b""), b"GET / []"),
        (HANDSHAKE.replace(b"13", b"8"), b"GET / []"),
        (HANDSHAKE.replace(b"websocket\r\n", b"websocket, h2c\r\n"), b"GET / []"),
        (HANDSHAKE.replace(b"HTTP/1.1", b"HTTP/1.0"), b"GET / []"),
        (with_length(HANDSHAKE.replace(b"Upgrade\r\n", b"Upgrade, close\r\n")), b"GET / [abc]"),
    ],
    ids=[
        "POST with a body",
        "POST",
        "a length",
        "chunks",
        "no key",
        "two keys",
        "a short key",
        "no version",
        "another version",
        "two protocols",
        "HTTP/1.0",
        "close",
    ],
)
def test_what_is_no_handshake_is_answered_as_a_plain_request(request_: bytes, expected: bytes) -> None:
    assert bodies(converse(echo, request_ + LAST_GET))[0] == expected


def test_a_handshake_behind_a_request_in_work_is_a_plain_request() -> None:
    first = LAST_GET.replace(b"last", b"first").replace(b"Connection: close\r\n", b"")
    answers = bodies(converse(echo, first + HANDSHAKE + LAST_GET))
    assert answers == [b"GET /first []", b"GET / []", b"GET /last []"]


async def test_a_websocket_client_is_served_also_after_a_plain_request() -> None:
    with serve(application(echo)) as port:
        async with connect(f"ws://127.0.0.1:{port}/x") as client:
            await client.send("hello")
            assert await client.recv() == "hello"

        def shake_hands_late() -> bytes:
            with socket.create_connection(("127.0.0.1", port), timeout=60) as late:
                late.sendall(b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n")
                read_until(late, b"[]")
                late.sendall(HANDSHAKE)
                return read_until(late, b"\r\n\r\n")

        assert (await asyncio.to_thread(shake_hands_late)).startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize("missing", [2, 60], ids=["the last line break", "headers"])
def test_half_a_handshake_is_closed(missing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portal.http_protocol.HEAD_TIMEOUT_S", 0.3)
    assert converse(echo, HANDSHAKE[:-missing]) == b""


@pytest.mark.parametrize("extra", [b"X: " + b"x" * 10_000 + b"\r\n", b"X: y\r\n" * 200], ids=["long", "many"])
def test_a_handshake_that_the_websocket_protocol_can_not_read_is_refused_at_once(extra: bytes) -> None:
    head, body = split(converse(echo, HANDSHAKE[:-2] + extra + b"\r\n"))
    assert head[0] == b"HTTP/1.1 431 Request Header Fields Too Large"
    assert body == b"The headers of the WebSocket's handshake are too many or too long."


@pytest.mark.parametrize("target", [b"a:443", b"/x"])
def test_a_tunnel_is_refused(target: bytes) -> None:
    answer = converse(echo, b"CONNECT " + target + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 37\r\n\r\n" + SMUGGLED)
    assert split(answer)[0][0] == b"HTTP/1.1 400 Bad Request"
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    "hosts", [b"", b"Host: a\r\nHost: a\r\n", b"host: a\r\nHOST: b\r\n"], ids=["no", "two", "other"]
)
@pytest.mark.parametrize("upgrade", [b"", H2C, UPGRADE[9:] + KEY + VERSION], ids=["plain", "h2c", "websocket"])
def test_a_request_needs_exactly_one_host(hosts: bytes, upgrade: bytes) -> None:
    answer = converse(echo, b"GET / HTTP/1.1\r\n" + hosts + upgrade + b"\r\n" + LAST_GET)
    head, body = split(answer)
    assert head[0] == b"HTTP/1.1 400 Bad Request"
    assert b"connection: close" in head
    assert body == b"A request must have exactly one Host header."


def test_the_refusal_waits_for_the_answers_before_it() -> None:
    first = LAST_GET.replace(b"last", b"first").replace(b"Connection: close\r\n", b"")
    answer = converse(echo, first + b"GET / HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.index(b"GET /first []") < answer.index(b"HTTP/1.1 400 Bad Request")


def test_the_first_version_needs_no_host_but_may_not_have_two() -> None:
    assert bodies(converse(echo, b"GET / HTTP/1.0\r\n\r\n")) == [b"GET / []"]
    assert converse(echo, b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_a_trailer_does_not_pass_for_a_header() -> None:
    seen: list[list[tuple[bytes, bytes]]] = []

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass
        seen.append(list(scope["headers"]))
        await start(send)
        await write(send, b"")

    chunks = b"1\r\nx\r\n0\r\nAuthorization: Bearer y\r\nHost: b\r\n\r\n"
    post = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    assert converse(answer, post + LAST_GET).count(b"HTTP/1.1 200 OK") == 2
    assert seen[0] == [(b"host", b"a"), (b"transfer-encoding", b"chunked")]


@pytest.mark.parametrize(
    ("close", "status", "body"),
    [
        (
            {"code": 4404, "reason": "There is nothing."},
            b"404 Not Found",
            b'{"error":"not_found","details":"There is nothing."}',
        ),
        ({"code": 4401, "reason": "Who?"}, b"401 Unauthorized", b'{"error":"unauthorized","details":"Who?"}'),
        (
            {"code": 4599, "reason": ""},
            b"403 Forbidden",
            b'{"error":"forbidden","details":"The WebSocket is refused."}',
        ),
        ({}, b"403 Forbidden", b'{"error":"forbidden","details":"The WebSocket is refused."}'),
    ],
)
def test_who_is_refused_a_websocket_is_told_why(
    close: dict[str, Any], status: bytes, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        send = explain_refusal(scope, send)
        await receive()
        await send({"type": "websocket.close", **close})

    lines, said = split(converse(refuse, HANDSHAKE))
    assert (lines[0], said) == (b"HTTP/1.1 " + status, body)
    assert b"content-type: application/json" in [line.lower() for line in lines]
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []


def test_a_websocket_that_was_accepted_is_closed_as_ever() -> None:
    async def accept(scope: Any, receive: Any, send: Any) -> None:
        await echo(scope, receive, explain_refusal(scope, send))

    with serve(application(accept)) as port, connect_waiting(f"ws://127.0.0.1:{port}/") as client:
        client.send("hello")
        assert list(client) == ["hello"]
