"""Finding `usage` and `timings` in JSON text without decoding all of it: answers can be long, these members are short.

The members that count stand at the top of the answer's object (or in its `response` or `message`, see `usage.Answer`).
A key of the same name deeper inside, say in the arguments of a tool, must not be taken for one of them. From the key
to the end of the text is an object again, once a brace is put before it, exactly if the key stood at the top. The text
before the key and the key's own value are one, exactly likewise, once a brace is put behind. So JSON's own syntax
tells, and no part of the text needs to be counted through.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

from gateway.accounting.usage import Answer

USAGE = b'"usage"'
TIMINGS = b'"timings"'
SHORT = 1024
"""Bytes up to which decoding the whole is quicker than looking for the place."""

_BACKSLASH = 0x5C
_MOST_TRIES = 8
_STRING_OR_BRACE = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}]', re.DOTALL)
_UNREADABLE = (msgspec.DecodeError, ValueError, RecursionError)
_decode_answer = msgspec.json.Decoder(Answer).decode
T = TypeVar("T", bound=msgspec.Struct)


def read_answer(text: bytes, *, is_event: bool = False) -> list[Answer]:
    """What a whole JSON text tells: an object, or a list's elements. Empty when it tells nothing or is no JSON."""
    if len(text) > SHORT:
        if text.rfind(USAGE) < 0 and text.rfind(TIMINGS) < 0:
            return []
        if (found := read_end(text, is_event=is_event)) is not None:
            return [found]
    try:
        return [_decode_answer(text)]
    except msgspec.ValidationError:
        return _read_leniently(text)
    except _UNREADABLE:
        return []


def read_end(text: bytes, *, is_event: bool = False) -> Answer | None:
    """What the last members of an object tell whose beginning may be missing; None when none of them is `usage`.

    In a stream's event they may stand one level deeper, in the event's last member.
    """
    for place in sorted([*_find_last(text, USAGE), *_find_last(text, TIMINGS)]):
        if place and text[place - 1] == _BACKSLASH:
            continue  # a quotation mark within a text
        rest = text[place:]
        found = _try_decode(b"{" + rest)
        if found is None and is_event:
            found = _try_decode(b'{"response":{' + rest)
        if found is not None:
            return found
    return None


def read_start(text: bytes) -> Answer | None:
    """What the first members of an object tell whose end is missing; None when none of them is `usage`."""
    for key in (USAGE, TIMINGS):
        place = -1
        for _ in range(_MOST_TRIES):
            place = text.find(key, place + 1)
            if place < 0:
                break
            found = _try_decode(text[: _find_object_end(text, place + len(key))] + b"}")
            if found is not None and (found.usage is not None or found.timings is not None):
                return found
    return None


def _find_last(text: bytes, key: bytes) -> Iterator[int]:
    place = len(text)
    for _ in range(_MOST_TRIES):
        place = text.rfind(key, 0, place)
        if place < 0:
            return
        yield place


def _try_decode(text: bytes) -> Answer | None:
    try:
        return _decode_answer(text)
    except _UNREADABLE:
        return None


def _find_object_end(text: bytes, start: int) -> int:
    """The place behind the first object that begins after `start`."""
    depth = 0
    for match in _STRING_OR_BRACE.finditer(text, start):
        token = text[match.start()]
        if token == ord("{"):
            depth += 1
        elif token == ord("}"):
            depth -= 1
            if depth <= 0:
                return match.end()
    return len(text)


def _read_leniently(text: bytes) -> list[Answer]:
    """As `read_answer`, for a list, and for answers with something else in a member than what should be there."""
    try:
        value = msgspec.json.decode(text)
    except _UNREADABLE:
        return []
    values = value if isinstance(value, list) else [value]
    return [found for element in values if (found := _convert(Answer, element)) is not None]


def _convert(kind: type[T], value: Any) -> T | None:
    """The struct with those members of `value` that are what they should be."""
    if not isinstance(value, dict):
        return None
    members = {name: _convert_member(inner, value.get(name)) for name, inner in _list_members(kind).items()}
    return kind(**members)


def _convert_member(kind: Any, value: Any) -> Any:
    if kind is not float:
        return _convert(kind, value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if abs(value) < 2**63 else None


def _list_members(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {name: get_args(hint)[0] for name, hint in get_type_hints(kind).items()}


def read_error(text: bytes) -> str:
    """The sentence of an error's body: the text at `error.message`, `error`, `message` or `detail`; empty when none."""
    try:
        value = msgspec.json.decode(text)
    except _UNREADABLE:
        return ""
    if not isinstance(value, dict):
        return ""
    error = value.get("error")
    inner = error.get("message") if isinstance(error, dict) else error
    found = (text for text in (inner, value.get("message"), value.get("detail")) if isinstance(text, str) and text)
    return next(found, "")
