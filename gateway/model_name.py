"""Finding the model in a JSON body, and replacing it without touching any other byte."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec

from gateway.errors import GatewayError

MEMBER_LIMIT = 10_000
"""Members that an object may have in which `model` is not easily told apart."""


class _Envelope(msgspec.Struct):
    model: Any = None


class _Key:
    """A member name of a JSON object. Compared by identity, so that a repeated name isn't folded into one entry."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


_envelope_decoder = msgspec.json.Decoder(_Envelope)
_NAME = b'"model"'
_ESCAPED = b"\\u006"
"""How each letter of the name begins when it is escaped (RFC 8259 section 7)."""
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
_SPACE = re.compile(rb"[ \t\n\r]*")
_COLON = re.compile(rb"[ \t\n\r]*:[ \t\n\r]*")
_COMMA = re.compile(rb"[ \t\n\r]*,?[ \t\n\r]*")


def find_model(body: bytes) -> str:
    """The value of the top-level member `model` of the JSON object in `body`, whatever its content type said.

    Everything else is skipped without being decoded. Of a repeated member the last counts, as it does for the parsers
    of the engines (RFC 8259 section 4 leaves it open). Raises `GatewayError` 400 when the body isn't a JSON object or
    names no model.
    """
    try:
        model = _envelope_decoder.decode(body).model
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if not body:
            message = "Invalid request body: it is empty"
            raise GatewayError(400, "invalid_request", message, param="model") from error
        raise GatewayError(400, "invalid_request", f"Invalid request body: {error}") from error
    if not isinstance(model, str) or not model:
        raise missing_model()
    return model


def missing_model() -> GatewayError:
    """The refusal of a body that names no model, in llamactl's words."""
    return GatewayError(400, "invalid_request", "Model name is required", param="model")


def replace_model(body: bytes, model: str) -> bytes:
    """`body` with every top-level `model` set to `model`; all other bytes stay as they are.

    Numbers keep their digits, members their order, and objects inside the body their own `model`. `body` must have
    passed `find_model`. Raises `GatewayError` 400 for an object of more than `MEMBER_LIMIT` members.
    """
    replacement = msgspec.json.encode(model)
    starts = list(islice(_find_values(body), 2))
    if len(starts) == 1 and _ESCAPED not in body:
        # The only member of this name is the one that was found.
        return body[: starts[0]] + replacement + body[_skip(_STRING, body, starts[0]) :]
    return _replace_members(body, replacement)


def put_model(body: bytes, model: str) -> bytes:
    """`body`, a JSON object that may name no model, with `model` as the one it names; all other bytes stay.

    Raises `GatewayError` 400 as `replace_model` does.
    """
    replacement = msgspec.json.encode(model)
    if any(key.text == "model" for key in _decode_members(body)):
        return _replace_members(body, replacement)
    begin = _skip(_SPACE, body, 0) + 1
    is_empty = body[_skip(_SPACE, body, begin) :].startswith(b"}")
    return b"%b%b:%b%b%b" % (body[:begin], _NAME, replacement, b"" if is_empty else b",", body[begin:])


def _find_values(body: bytes) -> Iterator[int]:
    """Where the values of members `model` begin, at any depth: strings hold no quote without a backslash before it."""
    found = body.find(_NAME)
    while found >= 0:
        end = found + len(_NAME)
        colon = _COLON.match(body, end)
        if colon is not None and body[found - 1 : found] != b"\\":
            yield colon.end()
        found = body.find(_NAME, end)


def _replace_members(body: bytes, replacement: bytes) -> bytes:
    pieces: list[bytes] = []
    copied = 0
    position = _skip(_SPACE, body, 0) + 1
    for key, value in _decode_members(body).items():
        position = _skip(_SPACE, body, position)
        position = _skip(_STRING, body, position)
        position = _skip(_COLON, body, position)
        end = position + len(memoryview(value))
        if key.text == "model":
            pieces += (body[copied:position], replacement)
            copied = end
        position = _skip(_COMMA, body, end)
    pieces.append(body[copied:])
    return b"".join(pieces)


def _decode_members(body: bytes) -> dict[_Key, msgspec.Raw]:
    """The members of the object, none of their values decoded. Each costs memory and time, so there's a limit."""
    left = MEMBER_LIMIT

    def make_key(_: type[Any], text: str) -> _Key:
        nonlocal left
        left -= 1
        if left < 0:
            message = f"Invalid request body: the object has more than {MEMBER_LIMIT} members"
            raise GatewayError(400, "invalid_request", message)
        return _Key(text)

    return msgspec.json.decode(body, type=dict[_Key, msgspec.Raw], dec_hook=make_key)


def _skip(pattern: re.Pattern[bytes], body: bytes, position: int) -> int:
    match = pattern.match(body, position)
    if match is None:
        raise GatewayError(400, "invalid_request", f"Invalid request body: it is malformed at byte {position}")
    return match.end()
