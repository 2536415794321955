"""A head that has been read, to know the next one by: clients and engines send the same head again and again.

Comparing costs a fraction of parsing. Only the length of the body may differ. What is known came from the parser, so a
head that equals it means the same; whatever differs in one more byte is for the parser.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from gateway.asgi import Headers

Facts = TypeVar("Facts")

_LENGTH = b"content-length"
_DIGITS = 8
"""Of a length that is looked at; longer bodies come in many pieces anyway."""


class KnownHead(Generic[Facts]):
    """A head of HTTP/1.1 whose body is as long as it says."""

    __slots__ = ("_after", "_after_size", "_before", "_before_size", "_headers", "_name", "_place", "facts")

    facts: Facts | None
    """Whatever else has been worked out of this head, for the next message that comes with it."""

    def __init__(self, before: bytes, after: bytes, headers: Headers, place: int) -> None:
        self._before = before
        self._after = after
        self._before_size = len(before)
        self._after_size = len(after)
        self._headers = headers
        self._name = headers[place][0]
        self._place = place
        self.facts = None

    def measure(self, data: bytes) -> tuple[int, bytes] | None:
        """Where the body begins and the digits of its length, if `data` begins with this head; else None."""
        if not data.startswith(self._before):
            return None
        begin = self._before_size
        end = data.find(b"\r", begin, begin + _DIGITS + 1)
        digits = data[begin:end]
        if end < 0 or not digits.isdigit() or not data.startswith(self._after, end):
            return None
        return end + self._after_size, digits

    def make_headers(self, digits: bytes) -> Headers:
        """The headers of a head with this length."""
        headers = self._headers.copy()
        headers[self._place] = (self._name, digits)
        return headers


def learn_head(data: bytes, headers: Headers) -> KnownHead[Any] | None:
    """The head with which `data` begins and in which a parser found these headers, names in lower case.

    None when its bytes don't show for sure which of them are the length (another spelling, folded lines, chunks) or a
    header has what none may have: a line break, a NUL.
    """
    places = [place for place, (name, _) in enumerate(headers) if name == _LENGTH]
    if len(places) != 1 or any(name == b"transfer-encoding" for name, _ in headers):
        return None
    digits = headers[places[0]][1]
    head = data[: data.find(b"\r\n\r\n") + 4]
    line = head.lower().find(b"\r\n" + _LENGTH + b": " + digits + b"\r\n")
    if line < 0 or not digits.isdigit() or len(digits) > _DIGITS or b"\0" in head:
        return None
    if not head.count(b"\r\n") == head.count(b"\r") == head.count(b"\n") == len(headers) + 2:
        return None
    begin = line + len(_LENGTH) + 4
    return KnownHead(head[:begin], head[begin + len(digits) :], headers, places[0])
