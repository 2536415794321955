"""The web server's HTTP: what goes over the wire for what an application sends, and what the application hears."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest
import uvicorn.server

from portal.http_cycle import JOINED_LIMIT, HttpCycle
from portal.http_protocol import BoundedHttpProtocol, read_address, split_target
from portal.web import make_config
from tests.portal.web import App, application, converse, read_all, read_until, serve, split, start, write
from tests.system.stack import poll

pytestmark = pytest.mark.any_database
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nx: y\r\n"
LAST_GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


class Wire(asyncio.Transport):
    """A transport that remembers each write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.is_closed = False

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def play(app: App, request: bytes) -> list[bytes]:
    """What the protocol writes for a request, write by write."""
    config = make_config(1, application(app))
    config.load()
    wire = Wire()
    protocol = BoundedHttpProtocol(config, uvicorn.server.ServerState(), {})
    protocol.connection_made(wire)
    protocol.data_received(request)
    await asyncio.gather(*protocol.tasks)
    protocol.connection_lost(None)
    return wire.writes


async def test_an_answer_that_is_ready_leaves_in_one_write() -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await start(send, 200, (b"content-length", b"5"))
        await write(send, b"hello")

    assert await play(answer, GET) == [b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"]


async def test_the_first_chunk_of_a_stream_takes_the_head_along() -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await write(send, b"one", more=True)
        await asyncio.sleep(0.01)
        await write(send, b"two", more=True)
        await write(send, b"")

    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    assert await play(answer, GET) == [head + b"3\r\none\r\n", b"3\r\ntwo\r\n", b"0\r\n\r\n"]


async def test_a_large_first_piece_is_not_copied_for_the_head() -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await start(send, 200, (b"content-length", b"100000"))
        await write(send, b"x" * 100_000)

    assert [len(data) for data in await play(answer, GET)] == [
        len(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n"),
        10**5,
    ]


@pytest.mark.parametrize(
    ("request_", "size", "has_date", "expected"),
    [
        (GET, 2, True, [BUSY + b"content-length: 2\r\n\r\nxx"]),
        (
            LAST_GET,
            2,
            False,
            [BUSY + b"date: today\r\ncontent-length: 2\r\nconnection: close\r\n\r\nxx"],
        ),
        (
            GET,
            JOINED_LIMIT + 1,
            True,
            [
                BUSY + b"content-length: %d\r\n\r\n" % (JOINED_LIMIT + 1),
                b"x" * (JOINED_LIMIT + 1),
            ],
        ),
    ],
    ids=["small", "the last, without a date", "large"],
)
async def test_an_answer_whose_lines_are_written_out_is_framed(
    request_: bytes, size: int, has_date: bool, expected: list[bytes]
) -> None:
    class Portal:
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            raise AssertionError

        def take(self, cycle: HttpCycle) -> bool:
            cycle.write_answer(503, b"x: y\r\n", b"x" * size, has_date=has_date)
            return True

    config = make_config(1, Portal())
    config.load()
    wire, state = Wire(), uvicorn.server.ServerState()
    state.default_headers = [(b"date", b"today")]
    protocol = BoundedHttpProtocol(config, state, {})
    protocol.connection_made(wire)
    protocol.data_received(request_)
    assert wire.writes == expected
    assert wire.is_closed == (request_ is LAST_GET)
    assert state.total_requests == 1
    protocol.connection_lost(None)


@pytest.mark.parametrize(
    ("name", "address", "expected"),
    [
        ("peername", ("192.0.2.1", 5), ("192.0.2.1", 5)),
        ("peername", ("2001:db8::1", 5, 0, 0), ("2001:db8::1", 5)),
        ("peername", None, None),
        ("peername", "", None),
        ("sockname", "/run/corral.sock", ("/run/corral.sock", None)),
    ],
)
def test_an_address_is_a_host_and_a_port(name: str, address: Any, expected: Any) -> None:
    assert read_address(asyncio.Transport(extra={name: address}), name) == expected


def test_a_head_does_not_wait_for_its_body() -> None:
    seen = threading.Event()

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        assert await asyncio.to_thread(seen.wait, 60)
        await write(send, b"late")

    with serve(application(answer)) as port, socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(LAST_GET)
        assert read_until(client, b"\r\n\r\n").startswith(b"HTTP/1.1 200")
        seen.set()
        assert read_all(client) == b"4\r\nlate\r\n0\r\n\r\n"


def test_requests_sent_together_are_answered_in_order_and_one_at_a_time() -> None:
    working: list[str] = []

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        assert not working
        working.append(scope["path"])
        await asyncio.sleep(0.05 if scope["path"] == "/1" else 0)
        body = (await receive())["body"]
        working.remove(scope["path"])
        await start(send)
        await write(send, scope["path"].encode() + b":" + body)

    posts = b"".join(b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n%d" % (n, n) for n in (1, 2, 3))
    received = converse(answer, posts + LAST_GET)
    positions = [received.index(body) for body in (b"/1:1", b"/2:2", b"/3:3", b"\r\n/:\r\n")]
    assert positions == sorted(positions)
    assert received.count(b"HTTP/1.1 200") == 4


@pytest.mark.timed
def test_a_connection_serves_one_request_after_the_other_until_it_was_idle_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("portal.http_protocol.HEAD_TIMEOUT_S", 0.2)

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.5)  # longer than a head may take: the timer must not end a request in work
        await start(send, 200, (b"content-length", b"2"))
        await write(send, b"ok")

    app = application(answer)
    with serve(app, timeout_keep_alive=1) as port, socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        for _ in range(2):
            client.sendall(GET)
            assert read_until(client, b"ok").startswith(b"HTTP/1.1 200")
        assert read_all(client) == b""


@pytest.mark.parametrize("length", [[(b"content-length", b"4")], []], ids=["with a length", "without"])
def test_an_answer_to_head_has_no_body(length: list[tuple[bytes, bytes]]) -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await start(send, 200, *length)
        await write(send, b"body")

    head, body = split(converse(answer, b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + LAST_GET.replace(b"GET", b"HEAD")))
    assert head[0] == b"HTTP/1.1 200 OK"
    assert not any(b"transfer-encoding" in line for line in head)
    assert body.startswith(b"HTTP/1.1 200 OK\r\n")  # the next answer follows at once
    assert b"body" not in body


@pytest.mark.parametrize("status", [204, 304])
def test_answers_that_never_have_a_body_are_not_chunked(status: int) -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await start(send, status)
        await write(send, b"")

    head, body = split(converse(answer, GET + LAST_GET))
    assert head[1:] == []
    assert split(body) == ([head[0], b"connection: close"], b"")


def test_a_client_of_the_first_version_gets_no_chunks() -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await write(send, b"one ", more=True)
        await write(send, b"two")

    head, body = split(converse(answer, b"GET / HTTP/1.0\r\n\r\n"))
    assert head == [b"HTTP/1.1 200 OK", b"connection: close"]
    assert body == b"one two"


def test_an_answer_has_one_date() -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"Date", b"Sat, 01 Jan 2000 00:00:00 GMT")] if scope["path"] == "/dated" else []
        await start(send, 200, *headers)
        await write(send, b"")

    received = converse(answer, GET.replace(b" / ", b" /dated ") + LAST_GET)
    first, second = received.split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert first.lower().count(b"date: ") == second.lower().count(b"date: ") == 1
    assert b"2000" in first
    assert b"2000" not in second


def test_a_client_that_waits_for_leave_to_send_its_body_gets_it_when_the_body_is_wanted() -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        wanted = scope["path"] == "/wanted"
        body = (await receive())["body"] if wanted else b"unread"
        await start(send, 200, (b"content-length", b"%d" % len(body)))
        await write(send, body)

    head = b"POST /%b HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    with serve(application(answer)) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            client.sendall(head % b"wanted")
            assert read_until(client, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.sendall(b"body")
            assert split(read_until(client, b"\r\n\r\nbody"))[0][0] == b"HTTP/1.1 200 OK"
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            client.sendall(head % b"unwanted")
            assert read_until(client, b"\r\n\r\nunread").startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("queued", [b"", GET], ids=["alone", "with the next request behind it"])
def test_the_application_hears_that_its_client_has_gone(queued: bytes) -> None:
    heard, working = threading.Event(), threading.Event()

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await start(send)
        await write(send, b"first", more=True)
        working.set()
        assert (await receive())["type"] == "http.disconnect"
        await write(send, b"nobody reads this")
        heard.set()

    with serve(application(answer)) as port:
        client = socket.create_connection(("127.0.0.1", port), timeout=60)
        client.sendall(GET + queued)
        assert working.wait(60)
        client.close()
        assert heard.wait(60)


def test_after_its_answer_the_application_hears_that_it_is_over() -> None:
    heard = threading.Event()

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        await start(send, 200, (b"content-length", b"0"))
        await write(send, b"")
        if (await waiting)["type"] == (await receive())["type"] == "http.disconnect":
            heard.set()

    with serve(application(answer)) as port, socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(GET)
        assert heard.wait(60)


def test_a_client_that_does_not_read_holds_up_the_application() -> None:
    sent = 0
    piece = b"x" * 65536

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await start(send)
        for _ in range(1024):
            await write(send, piece, more=True)
            sent += 1

    with serve(application(answer)) as port:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        client.settimeout(60)
        client.connect(("127.0.0.1", port))
        client.sendall(LAST_GET)
        seen = -1

        def has_stalled() -> bool:
            nonlocal seen
            threading.Event().wait(0.3)
            before, seen = seen, sent
            return before == seen

        poll(has_stalled, what="the application waits")
        # What fits: the kernel's buffers and the transport's high-water mark.
        assert 0 < sent * len(piece) < 16 * 2**20
        while sent == seen:  # a client that reads again lets it go on
            assert client.recv(1 << 20)
        client.close()


def test_an_upload_that_is_not_read_is_held_up() -> None:
    may_read = threading.Event()

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.to_thread(may_read.wait, 60)
        size, more = 0, True
        while more:
            message = await receive()
            size, more = size + len(message["body"]), message["more_body"]
        await start(send)
        await write(send, b"%d" % size)

    size = 32 * 2**20
    with serve(application(answer)) as port, socket.create_connection(("127.0.0.1", port), timeout=2) as client:
        client.sendall(LAST_GET.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: %d\r\n\r\n" % size))
        with pytest.raises(TimeoutError):
            client.sendall(b"x" * size)
        may_read.set()


def test_an_upload_may_be_answered_before_its_end() -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await start(send, 413 if scope["method"] == "POST" else 200, (b"content-length", b"2"))
        await write(send, b"no")

    size = 2**20
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
    received = converse(answer, post, b"x" * size, LAST_GET)
    assert received.startswith(b"HTTP/1.1 413 ")
    assert received.count(b"HTTP/1.1 200 OK") == 1


async def leave_before_the_start(scope: Any, receive: Any, send: Any) -> None:
    """Answer nothing."""


async def raise_before_the_start(scope: Any, receive: Any, send: Any) -> None:
    """Fail at once."""
    raise ValueError("broken")


async def break_a_line(scope: Any, receive: Any, send: Any) -> None:
    """Try to write a header of one's own making."""
    await start(send, 200, (b"x", b"y\r\nset-cookie: a=b"))
    await write(send, b"")


async def write_first(scope: Any, receive: Any, send: Any) -> None:
    """Send a body without a head."""
    await write(send, b"x")


@pytest.mark.parametrize("app", [leave_before_the_start, raise_before_the_start, break_a_line, write_first])
def test_an_application_that_fails_before_its_answer_gives_a_500(app: App) -> None:
    head, body = split(converse(app, GET))
    assert head[0] == b"HTTP/1.1 500 Internal Server Error"
    assert b"connection: close" in head
    assert body == b"Internal Server Error"


async def leave_after_the_start(scope: Any, receive: Any, send: Any) -> None:
    """Send a head alone."""
    await start(send, 200, (b"content-length", b"10"))


async def leave_within(scope: Any, receive: Any, send: Any) -> None:
    """Send half a body."""
    await start(send, 200, (b"content-length", b"10"))
    await write(send, b"half", more=True)


async def raise_within(scope: Any, receive: Any, send: Any) -> None:
    """Fail after half a body."""
    await leave_within(scope, receive, send)
    raise ValueError("broken")


async def write_too_little(scope: Any, receive: Any, send: Any) -> None:
    """End before the announced length."""
    await start(send, 200, (b"content-length", b"10"))
    await write(send, b"half")


async def write_too_much(scope: Any, receive: Any, send: Any) -> None:
    """Go on beyond the announced length."""
    await start(send, 200, (b"content-length", b"1"))
    await write(send, b"half")


@pytest.mark.parametrize("app", [leave_after_the_start, leave_within, raise_within, write_too_little, write_too_much])
def test_an_answer_that_breaks_off_ends_with_the_connection(app: App) -> None:
    head, body = split(converse(app, GET))
    assert head[0] == b"HTTP/1.1 200 OK"
    assert body in (b"", b"half")


def test_an_endless_stream_ends_when_the_server_stops() -> None:
    ending = threading.Event()

    class Endless:
        """An application whose streams end when they are told to."""

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await application(self.answer)(scope, receive, send)

        async def answer(self, scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            await write(send, b"begun", more=True)
            await asyncio.to_thread(ending.wait, 60)
            await write(send, b"ended")

        def end_streams(self) -> None:
            ending.set()

    with serve(Endless()) as port:
        client = socket.create_connection(("127.0.0.1", port), timeout=60)
        client.sendall(GET)
        read_until(client, b"begun\r\n")
    assert read_all(client) == b"5\r\nended\r\n0\r\n\r\n"
    client.close()


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", b"/", b""),
        (b"/a%20b?c=d?e", b"/a%20b", b"c=d?e"),
        (b"//double/slash?", b"//double/slash", b""),
        (b"/a#b", b"/a", b""),
        (b"http://host:80/path?query", b"/path", b"query"),
        (b"http://host", b"/", b""),
    ],
)
def test_a_target_is_split_into_path_and_query(target: bytes, path: bytes, query: bytes) -> None:
    assert split_target(target) == (path, query)


async def test_a_path_is_decoded_and_kept_as_it_came() -> None:
    seen: list[Any] = []

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["path"], scope["raw_path"], scope["query_string"], scope["method"], scope["http_version"]))
        await start(send)
        await write(send, b"")

    await play(answer, GET.replace(b" / ", b" /caf%C3%A9%2Fx?a=%20 "))
    assert seen == [("/café/x", b"/caf%C3%A9%2Fx", b"a=%20", "GET", "1.1")]
