"""The web server's HTTP: fields that follow the body of an answer."""

from __future__ import annotations

from typing import Any

import pytest

from tests.portal.web import App, converse, split, write

pytestmark = pytest.mark.any_database
LAST_GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
GET = LAST_GET.replace(b"Connection: close\r\n", b"")


def answer_with(*messages: list[tuple[bytes, bytes]], headers: tuple[tuple[bytes, bytes], ...] = ()) -> App:
    """An application that sends "ok" and then trailers, in one message or several."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        assert "http.response.trailers" in scope["extensions"]
        await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": True})
        await write(send, b"ok")
        for number, fields in enumerate(messages, 1):
            more = number < len(messages)
            await send({"type": "http.response.trailers", "headers": fields, "more_trailers": more})

    return answer


def test_trailers_follow_the_last_chunk() -> None:
    received = converse(answer_with([(b"x-sum", b"7")], [(b"x-more", b"8")]), GET + LAST_GET)
    first, second = received.split(b"HTTP/1.1 200 OK\r\n")[1:]
    for answer in (first, second):
        assert split(answer)[1] == b"2\r\nok\r\n0\r\nx-sum: 7\r\nx-more: 8\r\n\r\n"


def test_an_empty_trailer_ends_the_answer() -> None:
    assert split(converse(answer_with([]), LAST_GET))[1] == b"2\r\nok\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("request_", "headers", "body"),
    [
        (LAST_GET, ((b"content-length", b"2"),), b"ok"),
        (b"GET / HTTP/1.0\r\n\r\n", (), b"ok"),
        (LAST_GET.replace(b"GET", b"HEAD"), (), b""),
    ],
    ids=["a length", "HTTP/1.0", "HEAD"],
)
def test_an_answer_without_chunks_has_no_trailers(
    request_: bytes, headers: tuple[tuple[bytes, bytes], ...], body: bytes
) -> None:
    assert split(converse(answer_with([(b"x-sum", b"7")], headers=headers), request_))[1] == body


@pytest.mark.parametrize("value", [b"7\r\nx: y", b"7\n", b"\0"])
def test_a_trailer_with_a_line_break_or_a_nul_breaks_the_answer_off(value: bytes) -> None:
    assert split(converse(answer_with([(b"x-sum", value)]), GET))[1] == b"2\r\nok\r\n"


def test_trailers_that_never_come_break_the_answer_off() -> None:
    assert split(converse(answer_with(), GET))[1] == b"2\r\nok\r\n"


def test_trailers_that_were_not_announced_break_nothing_of_the_answer() -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": ()})
        await write(send, b"ok")
        with pytest.raises(RuntimeError, match="trailers"):
            await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"7")]})

    assert split(converse(answer, LAST_GET))[1] == b"2\r\nok\r\n0\r\n\r\n"
