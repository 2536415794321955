"""The web server's settings: what a WebSocket client that does not read costs, and what is refused."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import threading
from typing import Any

import pytest

from portal.web import WEBSOCKET_MESSAGE_LIMIT
from tests.portal.web import serve
from tests.system.stack import poll

pytestmark = pytest.mark.any_database
MESSAGE = 64 * 1024


class Flood:
    """An application that sends WebSocket messages without end and counts those that ``send`` has taken."""

    def __init__(self) -> None:
        self.sent = 0
        self.ended = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        await receive()
        await send({"type": "websocket.accept"})
        try:
            while True:
                await send({"type": "websocket.send", "bytes": b"x" * MESSAGE})
                self.sent += 1
        except OSError:
            pass
        finally:
            self.ended.set()


def open_websocket(port: int) -> socket.socket:
    """Return a connected WebSocket whose receive buffer is small."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    client.settimeout(60)
    client.connect(("127.0.0.1", port))
    key = base64.b64encode(os.urandom(16)).decode()
    client.sendall(
        f"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += client.recv(1)
    assert answer.startswith(b"HTTP/1.1 101")
    return client


def test_a_websocket_client_that_does_not_read_holds_up_the_sender() -> None:
    flood = Flood()
    with serve(flood) as port:
        client = open_websocket(port)
        seen = -1

        def has_stalled() -> bool:
            nonlocal seen
            threading.Event().wait(0.3)
            before, seen = seen, flood.sent
            return before == seen

        poll(has_stalled, what="the sender waits")
        # What fits: the kernel's send buffer (at most 4 MiB by default) and the transport's high-water mark.
        assert 0 < flood.sent * MESSAGE < 16 * 2**20
        while flood.sent == seen:  # a client that reads again lets it go on
            assert client.recv(1 << 20)
        client.close()
        assert flood.ended.wait(60)


def test_a_websocket_message_above_the_limit_ends_the_connection() -> None:
    received: list[int] = []

    async def listen(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await Flood()(scope, receive, send)
            return
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            received.append(len(message["bytes"]))

    with serve(listen) as port:
        client = open_websocket(port)
        size = WEBSOCKET_MESSAGE_LIMIT + 1
        client.sendall(b"\x82\xff" + size.to_bytes(8, "big") + b"\0\0\0\0" + b"x" * 1024)
        answer = client.recv(2)
        assert answer[0] == 0x88  # a close frame (RFC 6455, 5.5.1) ...
        assert int.from_bytes(client.recv(2), "big") == 1009  # ... that says "message too big" (7.4.1)
        assert received == []
        client.close()


def test_answers_name_no_server_and_ignore_forwarded_addresses() -> None:
    seen: list[Any] = []

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await Flood()(scope, receive, send)
            return
        seen.append((scope["client"][0], scope["scheme"]))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})
        await asyncio.sleep(0)

    with serve(answer) as port, socket.create_connection(("127.0.0.1", port), 60) as client:
        client.sendall(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n"
            b"Connection: close\r\n\r\n"
        )
        answer_text = b""
        while chunk := client.recv(4096):
            answer_text += chunk
    assert b"\r\nserver:" not in answer_text.lower()
    assert seen == [("127.0.0.1", "http")]


def converse(port: int, *pieces: bytes) -> bytes:
    """Send bytes and return what comes until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        try:
            for piece in pieces:
                client.sendall(piece)
        except OSError:
            pass  # the server has had enough
        answer = b""
        try:
            while data := client.recv(65536):
                answer += data
        except ConnectionResetError:
            pass
        return answer


@pytest.mark.parametrize(
    "pieces",
    [
        [b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 2**20, *[b"x" * 2**20] * 30],
        [b"GET / HTTP/1.1\r\nHost: a\r\n", *[b"X-%d: y\r\n" % number * 1000 for number in range(300)]],
        [b"GET /" + b"a" * 2**20, *[b"a" * 2**20] * 10],
    ],
    ids=["one endless header", "endless headers", "an endless address"],
)
def test_a_head_without_end_is_cut_off(pieces: list[bytes]) -> None:
    with serve(echo) as port:
        answer = converse(port, *pieces)
        assert answer == b"" or answer.startswith((b"HTTP/1.1 431", b"HTTP/1.1 400"))
        assert converse(port, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 200")


def test_trailers_without_end_are_cut_off() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX: "
    with serve(echo) as port:
        converse(port, head, *[b"x" * 2**20] * 30)
        assert converse(port, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 200")


def test_large_bodies_are_not_heads() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % 2**22
    with serve(echo) as port:
        assert converse(port, head, b"x" * 2**22).endswith(b"4194304")


def test_a_connection_that_never_finishes_its_head_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portal.http_protocol.HEAD_TIMEOUT_S", 0.3)
    with serve(echo) as port:
        assert converse(port, b"GET / HTTP/1.1\r\nHost: a\r\n") == b""
        assert converse(port) == b""


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the length of the body."""
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = str(length).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
