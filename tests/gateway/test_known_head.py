"""What is taken for the last head again is understood as the parser understands it, on both sides of the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from gateway.asgi import Receive, Scope, Send
from gateway.known_head import learn_head
from gateway.upstream import UpstreamConnection
from portal.http_protocol import SOON_S, BoundedHttpProtocol

HEADERS = [(b"host", b"corral"), (b"authorization", b"Bearer one"), (b"content-length", b"2"), (b"accept", b"*/*")]


def write_head(first_line: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    return first_line + b"\r\n" + b"".join(b"%b: %b\r\n" % header for header in headers) + b"\r\n"


HEAD = write_head(b"POST /v1/completions HTTP/1.1", HEADERS)


def test_the_same_head_is_known_whatever_the_length() -> None:
    known = learn_head(HEAD + b"{}", HEADERS)
    assert known is not None
    for digits in (b"2", b"0", b"00012", b"99999999"):
        begin, found = known.measure(HEAD.replace(b": 2", b": " + digits) + b"{}") or (0, b"")
        assert (begin, found) == (len(HEAD) + len(digits) - 1, digits)
        assert known.make_headers(digits) == [*HEADERS[:2], (b"content-length", digits), HEADERS[3]]


@pytest.mark.parametrize("at", range(len(HEAD)))
def test_a_head_that_differs_in_one_byte_is_not_known(at: int) -> None:
    known = learn_head(HEAD + b"{}", HEADERS)
    assert known is not None
    other = HEAD[:at] + bytes([HEAD[at] ^ 1]) + HEAD[at + 1 :]
    if other == HEAD.replace(b": 2", b": 3"):
        return  # another length
    assert known.measure(other + b"{}") is None


@pytest.mark.parametrize("digits", [b"", b"-1", b"+1", b"1 ", b"1_0", b"0x1", b"\xb2", b"123456789"])
def test_a_strange_length_is_for_the_parser(digits: bytes) -> None:
    known = learn_head(HEAD + b"{}", HEADERS)
    assert known is not None
    assert known.measure(HEAD.replace(b": 2", b": " + digits) + b"{}") is None


@pytest.mark.parametrize(
    ("head", "headers"),
    [
        (HEAD.replace(b"content-length: 2", b"content-length:2"), HEADERS),
        (HEAD.replace(b"accept: */*", b"accept: */*,\r\n text/html"), [*HEADERS[:3], (b"accept", b"*/*, text/html")]),
        (b"\r\n" + HEAD, HEADERS),
        (HEAD[5:], HEADERS[1:]),
        (HEAD, [*HEADERS, (b"transfer-encoding", b"chunked")]),
        (HEAD, [*HEADERS, (b"content-length", b"2")]),
        (HEAD, [header for header in HEADERS if header[0] != b"content-length"]),
    ],
    ids=["no space", "folded", "empty line before", "its end", "chunked", "two lengths", "no length"],
)
def test_what_is_not_for_sure_is_not_learned(head: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    assert learn_head(head + b"{}", headers) is None


class Wire:
    """A transport without a network."""

    def __init__(self, client: str = "192.0.2.1") -> None:
        self.client = client
        self.sent = b""
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def can_write_eof(self) -> bool:
        return False

    def get_extra_info(self, name: str) -> Any:
        return {"peername": (self.client, 1), "sockname": ("127.0.0.1", 1)}.get(name)

    def pause_reading(self) -> None:
        pass

    resume_reading = abort = pause_reading


Seen = list[tuple[Any, ...]]
PAUSE = b""
"""Longer than a short body is waited for."""


async def serve(pieces: Sequence[bytes], *, knows: bool, client: str = "192.0.2.1") -> tuple[Seen, bytes, bool]:
    """Feed a connection; return what the application saw, what the client got, and whether the connection ended."""
    seen: Seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        seen.append((scope, body))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    app.take = lambda _: False  # type: ignore[attr-defined]  as a gateway, which wants whole bodies
    config = uvicorn.Config(app, http=BoundedHttpProtocol, proxy_headers=False, date_header=False, server_header=False)
    config.load()
    protocol = BoundedHttpProtocol(config, ServerState(), {}, asyncio.get_running_loop())
    wire = Wire(client)
    protocol.connection_made(wire)
    for piece in pieces:
        if wire.is_closed:
            break
        if piece is PAUSE:
            await asyncio.sleep(3 * SOON_S)
            continue
        if not knows:
            protocol._known = None
        protocol.data_received(piece)
        await asyncio.sleep(0)
        while protocol.server_state.tasks and protocol._active and protocol._active.has_whole_body:
            await asyncio.wait(protocol.server_state.tasks)
    protocol.connection_lost(None)
    for task in list(protocol.server_state.tasks):
        task.cancel()
    await asyncio.gather(*protocol.server_state.tasks, return_exceptions=True)
    return seen, wire.sent, wire.is_closed


LINES = [b"POST /v1/completions HTTP/1.1", b"POST /v1/embeddings?a=b HTTP/1.1", b"GET / HTTP/1.1", b"POST / HTTP/1.0"]
FURTHER = [
    (b"Authorization", b"Bearer one"), (b"authorization", b"Bearer two"), (b"Connection", b"close"),
    (b"Transfer-Encoding", b"chunked"), (b"Host", b"elsewhere"), (b"x", b""), (b"content-length", b"1"),
]  # fmt: skip


@st.composite
def requests(draw: st.DrawFn) -> list[bytes]:
    """A few requests, alike or not, in pieces."""
    heads = draw(
        st.lists(st.tuples(st.sampled_from(LINES), st.lists(st.sampled_from(FURTHER), max_size=2)), max_size=2)
    )
    stream: list[bytes] = []
    for _ in range(draw(st.integers(2, 5))):
        line, headers = draw(st.sampled_from([(LINES[0], FURTHER[:1]), *heads]))
        body = draw(st.sampled_from([b"", b"{}", b"{\r\n\r\n}", b"POST / HTTP/1.1\r\n\r\n", b"0" * 100]))
        length = [(draw(st.sampled_from([b"Content-Length", b"content-length"])), b"%d" % len(body))]
        data = write_head(line, [(b"Host", b"corral"), *headers, *length]) + body
        cut = draw(st.one_of(st.just(len(data)), st.just(len(data) - len(body)), st.integers(1, len(data))))
        stream += [data[:cut], data[cut:]]
    if draw(st.booleans()):
        at = draw(st.integers(0, len(stream) - 2))
        stream[at : at + 2] = [stream[at] + stream[at + 1]]
    return [piece for piece in stream if piece]


@settings(max_examples=300)
@given(requests())
def test_an_application_sees_what_the_parser_alone_would_have_shown(pieces: list[bytes]) -> None:
    async def compare() -> None:
        assert await serve(pieces, knows=True) == await serve(pieces, knows=False)

    asyncio.run(compare())


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What the parser gets, where no connection has learned anything yet."""
    parsed: list[bytes] = []
    parse = BoundedHttpProtocol._parse
    monkeypatch.setattr(BoundedHttpProtocol, "_parse", lambda self, data: (parsed.append(data), parse(self, data)))
    monkeypatch.setattr(BoundedHttpProtocol, "_newest", None)
    return parsed


async def test_a_known_head_is_not_parsed_again(parsed: list[bytes]) -> None:
    longer = HEAD.replace(b": 2", b": 4")
    seen, _, _ = await serve([HEAD + b"{}", longer + b"[{}]", HEAD, b"[]", HEAD, b"[", b"]"], knows=True)
    assert [body for *_, body in seen] == [b"{}", b"[{}]", b"[]", b"[]"]
    assert parsed == [HEAD + b"{}"]


async def test_a_head_that_one_connection_has_brought_is_known_on_the_next(parsed: list[bytes]) -> None:
    first, _, _ = await serve([HEAD + b"{}"], knows=True, client="192.0.2.1")
    second, _, _ = await serve([HEAD + b"[]", HEAD.replace(b"POST", b"PUT") + b"{}"], knows=True, client="192.0.2.2")
    assert [(scope["client"][0], scope["method"], body) for scope, body in first + second] == [
        ("192.0.2.1", "POST", b"{}"),
        ("192.0.2.2", "POST", b"[]"),
        ("192.0.2.2", "PUT", b"{}"),
    ]
    assert parsed == [HEAD + b"{}", HEAD.replace(b"POST", b"PUT") + b"{}"]


async def test_a_body_that_takes_its_time_is_parsed(parsed: list[bytes]) -> None:
    seen, _, _ = await serve([HEAD + b"{}", HEAD, PAUSE, b"[]", HEAD + b"00"], knows=True)
    assert [body for *_, body in seen] == [b"{}", b"[]", b"00"]
    assert parsed == [HEAD + b"{}", HEAD, b"[]"]


def answer(pieces: Sequence[bytes], *, knows: bool) -> Seen:
    """Feed an upstream connection one answer for each request; return what it told of each."""
    loop = asyncio.new_event_loop()
    connection = UpstreamConnection(loop)
    connection.connection_made(Wire())  # type: ignore[arg-type]
    seen: Seen = []
    for data in pieces:
        connection.start(b"POST / HTTP/1.1\r\n\r\n", b"", is_head_request=False)
        if not knows:
            connection._known = None
        for piece in data.split(b"|"):
            connection.data_received(piece)
        told = (connection.status, list(connection.headers), connection.is_complete, connection.keeps_alive)
        seen.append((*told, connection.take(), connection.trailers, connection.announces_trailers, connection.is_lost))
        if not connection.release(0.0):
            break
    loop.close()
    return seen


@st.composite
def answers(draw: st.DrawFn) -> list[bytes]:
    """A few answers, alike or not; bars cut them."""
    found = []
    for _ in range(draw(st.integers(2, 5))):
        status = draw(st.sampled_from([b"200 OK", b"200 OK", b"204 No Content", b"500 Oops"]))
        body = draw(st.sampled_from([b"", b"{}", b"{\r\n\r\n}", b"0\r\n\r\n"]))
        extra = draw(st.sampled_from([b"", b"", b"Connection: close\r\n", b"Transfer-Encoding: chunked\r\n"]))
        head = b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\nContent-Type: application/json\r\n\r\n"
        interim = draw(st.sampled_from([b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n"]))
        whole = interim + head % (status, extra, len(body)) + body
        cut = draw(st.one_of(st.just(0), st.integers(1, len(whole))))
        found.append(whole[:cut] + b"|" + whole[cut:] if cut else whole)
    return [whole.strip(b"|") for whole in found]


@settings(max_examples=300)
@given(answers())
def test_an_answer_is_what_the_parser_alone_would_have_made_of_it(pieces: list[bytes]) -> None:
    assert answer(pieces, knows=True) == answer(pieces, knows=False)
