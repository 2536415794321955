"""Reading JSON bodies, whatever their content type says, so that nothing in them can cause more than a 400."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from rest_framework.parsers import BaseParser
from rest_framework.request import Request

from accounts.api.errors import BodyTooLarge, InvalidBody

DEPTH = 32


class AnyTypeJSONParser(BaseParser):
    """Takes every body as JSON, as llamactl does: ``curl -d`` sends it as a form."""

    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """Return the decoded body; raise InvalidBody or BodyTooLarge."""
        return decode_json(read_bounded(stream))


def read_json(request: Request) -> Any:
    """Return the request's decoded body; raise InvalidBody (an empty one included) or BodyTooLarge.

    Unlike ``request.data`` this does not need a Content-Length, which chunked bodies lack.
    """
    return decode_json(read_bounded(request))


def read_bounded(stream: Any) -> bytes:
    """Read a body of at most ``DATA_UPLOAD_MAX_MEMORY_SIZE`` bytes; raise BodyTooLarge beyond."""
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    body: bytes = stream.read(limit + 1)
    if len(body) > limit:
        raise BodyTooLarge(f"The body is larger than {limit // 2**20} MiB.")
    return body


def decode_json(body: bytes) -> Any:
    """Decode one JSON value (RFC 8259) in UTF-8 and refuse what no database or process can hold."""
    if not body.strip():
        raise InvalidBody("it is empty; send a JSON object.")
    try:
        value = json.loads(body.decode("utf-8-sig"), parse_constant=refuse_constant, parse_float=read_float)
    except UnicodeDecodeError as error:
        raise InvalidBody(f"it is not UTF-8 (byte {error.start}).") from None
    except json.JSONDecodeError as error:
        raise InvalidBody(f"{error.msg} at line {error.lineno} column {error.colno}.") from None
    except RecursionError:
        raise InvalidBody("it is nested too deep.") from None
    except ValueError as error:
        raise InvalidBody(f"{error}.") from None
    check_value(value)
    return value


def refuse_constant(name: str) -> float:
    """NaN and Infinity are Python's, not JSON's."""
    raise ValueError(f"{name} is not a JSON value")


def read_float(text: str) -> float:
    """Read a number with a fraction or exponent; refuse one beyond the range of a double."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number


def check_value(root: Any) -> None:
    """Raise InvalidBody for a value nested deeper than 32 levels, or with a NUL or half a surrogate pair in a text."""
    pending = [(root, 0)]
    while pending:
        value, depth = pending.pop()
        if depth > DEPTH:
            raise InvalidBody("it is nested too deep.")
        if isinstance(value, str):
            if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
                raise InvalidBody("a text in it contains a NUL or half of a surrogate pair.")
        elif isinstance(value, dict):
            pending += [(part, depth + 1) for item in value.items() for part in item]
        elif isinstance(value, list):
            pending += [(part, depth + 1) for part in value]
