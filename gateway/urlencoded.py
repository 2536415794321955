"""Finding and replacing the model in a form of the type `application/x-www-form-urlencoded` (URL standard, 5)."""

from __future__ import annotations

import re
from urllib.parse import quote_plus, unquote_to_bytes

from gateway.errors import GatewayError

_MODEL = re.compile(rb"(?:\A|(?<=&))(?:m|%6[dD])(?:o|%6[fF])(?:d|%64)(?:e|%65)(?:l|%6[cC])=([^&]*)")
"""The field `model`, its name percent-encoded or not. A search, as splitting a large body would cost much memory."""


def is_urlencoded(content_type: bytes | None) -> bool:
    """Whether a request's `Content-Type` announces such a form."""
    return content_type is not None and content_type.lstrip()[:33].lower() == b"application/x-www-form-urlencoded"


def find_form_model(body: bytes) -> str | None:
    """The value of the field `model`; None when there is none. Raises `GatewayError` 400 when it is there twice."""
    found: bytes | None = None
    for match in _MODEL.finditer(body):
        if found is not None:
            raise GatewayError(400, "invalid_request", "The form has the field model twice", param="model")
        found = match[1]
    return None if found is None else unquote_to_bytes(found.replace(b"+", b" ")).decode(errors="replace")


def replace_form_model(body: bytes, model: str) -> bytes:
    """`body` with another value of the field `model`; all other bytes stay as they are."""
    match = _MODEL.search(body)
    if match is None:
        return body
    return body[: match.start(1)] + quote_plus(model).encode() + body[match.end(1) :]
