"""The web server's HTTP: clients that send more than they read, half a body, or nothing more."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import Any

import pytest

from portal.http_protocol import PIPELINE_LIMIT
from tests.portal.web import App, application, read_all, read_until, serve, split, start, write

pytestmark = pytest.mark.any_database
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
UPLOAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n%b\r\n"
LAST = b"Connection: close\r\n"


class Held:
    """An application that answers once it is let, and notes what it hears meanwhile."""

    def __init__(self) -> None:
        self._may_answer = asyncio.Event()
        self.has_begun = threading.Event()
        self.saw_departure = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self._loop = asyncio.get_running_loop()
        waiting = {asyncio.create_task(self.watch(receive)), asyncio.create_task(self.wait())}
        _, left = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in left:
            task.cancel()
        await start(send, 200, (b"content-length", b"2"))
        await write(send, b"ok")

    def let_answer(self) -> None:
        self._loop.call_soon_threadsafe(self._may_answer.set)

    async def wait(self) -> None:
        await self._may_answer.wait()

    async def watch(self, receive: Any) -> None:
        assert (await receive())["type"] == "http.request"
        self.has_begun.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        self.saw_departure.set()


def test_requests_without_end_on_one_connection_do_not_pile_up() -> None:
    """They took 140 MB of memory a second."""
    app = Held()
    with serve(application(app)) as port, socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(GET)
        assert app.has_begun.wait(60)
        client.sendall(GET * 5000)
        app.let_answer()
        answers = read_all(client)
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == 1 + PIPELINE_LIMIT
    *_, refusal = answers.split(b"ok")
    assert refusal.startswith(b"HTTP/1.1 429 ")
    assert refusal.endswith(b"Too many requests wait on this connection; read the answers first.")


@pytest.mark.parametrize("later", [GET, UPLOAD % (100_000, b"") + b"x" * 1000])
def test_a_client_that_sends_another_request_and_leaves_is_noticed(later: bytes) -> None:
    """Its connection stayed, and what it had begun went on."""
    app = Held()
    with serve(application(app)) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            client.sendall(GET)
            assert app.has_begun.wait(60)
            client.sendall(later)  # the first one is being waited for: this comes by itself
        assert app.saw_departure.wait(60)


async def read_body(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the length of the body."""
    length, more_body = 0, True
    while more_body:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length, more_body = length + len(message["body"]), message["more_body"]
    said = b"%d" % length
    await start(send, 200, (b"content-length", b"%d" % len(said)))
    await write(send, said)


async def read_late(scope: Any, receive: Any, send: Any) -> None:
    """Do so after a pause, in which twenty looks at the timer fall."""
    await asyncio.sleep(1)
    await read_body(scope, receive, send)


def test_a_body_that_does_not_go_on_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portal.http_protocol.HEAD_TIMEOUT_S", 0.1)
    heard: list[str] = []

    async def listen(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] != "http.disconnect":
            heard.append(message["type"])
        heard.append(message["type"])

    with serve(application(listen)) as port, socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(UPLOAD % (1000, b"") + b"x")
        lines, said = split(read_all(client))
    assert (lines[0], said) == (b"HTTP/1.1 408 Request Timeout", b"The request's body did not come in time.")
    assert heard == ["http.request", "http.disconnect"]


def test_a_body_that_waits_for_the_application_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portal.http_protocol.HEAD_TIMEOUT_S", 0.05)
    with serve(application(read_late)) as port, socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(UPLOAD % (2_000_000, LAST) + b"x" * 2_000_000)
        assert split(read_all(client))[1] == b"2000000"


def test_a_client_that_waits_to_be_let_send_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portal.http_protocol.HEAD_TIMEOUT_S", 0.05)
    with serve(application(read_late)) as port, socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(UPLOAD % (2, LAST + b"Expect: 100-continue\r\n"))
        read_until(client, b"HTTP/1.1 100 Continue\r\n\r\n")
        client.sendall(b"xx")
        assert split(read_all(client))[1] == b"2"


def test_a_body_that_comes_as_the_answer_goes_on_may_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portal.http_protocol.HEAD_TIMEOUT_S", 0.05)

    async def converse(scope: Any, receive: Any, send: Any) -> None:
        await start(send, 200, (b"content-length", b"6"))
        await write(send, b"go", more=True)
        await receive()
        assert (await receive())["body"] == b"x"
        await write(send, b"done")

    with serve(application(converse)) as port, socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(UPLOAD % (2, LAST) + b"x")
        read_until(client, b"\r\n\r\ngo")
        time.sleep(0.5)  # the client's pause: ten looks at the timer, where three would end another body
        client.sendall(b"x")
        assert read_all(client) == b"done"


async def refuse(scope: Any, receive: Any, send: Any) -> None:
    """Answer without a look at the body."""
    await start(send, 401, (b"content-length", b"3"))
    await write(send, b"no!")


@pytest.mark.parametrize(
    ("app", "head", "status", "sentence"),
    [
        (refuse, UPLOAD % (5_000_000, LAST), b"HTTP/1.1 401 Unauthorized", b"no!"),
        (
            read_body,
            b"GET / HTTP/1.1\r\n nonsense \r\n\r\n",
            b"HTTP/1.1 400 Bad Request",
            b"Invalid HTTP request received.",
        ),
    ],
)
def test_a_client_that_is_still_sending_can_read_why_it_is_refused(
    app: App, head: bytes, status: bytes, sentence: bytes
) -> None:
    """Closing with input unread resets the connection, and the answer with it (RFC 9112, 9.6)."""
    with serve(application(app)) as port, socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(head + b"x" * 5_000_000)
        lines, said = split(read_all(client))
    assert (lines[0], said) == (status, sentence)


def send_for_ever(client: socket.socket) -> None:
    """Send until that fails."""
    while True:
        client.sendall(b"x" * 100_000)


def test_a_client_that_goes_on_sending_is_closed_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portal.http_protocol.LINGER_S", 0.2)
    with serve(application(refuse)) as port, socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(UPLOAD % (10**12, LAST))
        with pytest.raises(OSError, match=r"reset|pipe"):
            send_for_ever(client)
