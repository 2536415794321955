"""The keys that a request brings: one reader for all that answers requests, and the mark of a wrong one.

Imports no Django.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

_WRONG = "has_wrong_key"
"""In the scope's ``state``, which the scopes share that are made from it on the way."""


class PresentedKeys(NamedTuple):
    """What a request brings as a key, in the order in which it counts; None where there is nothing."""

    password: bytes | None = None
    """Of ``Authorization: Basic``. One that is no key counts as none as long as something else says who asks: where a
    reverse proxy demands a password, browsers send it with every request."""
    key: bytes | None = None
    """From any other place. One that is no key is refused, whatever else comes with it."""


def read_keys(headers: Iterable[tuple[bytes, bytes]], query: bytes) -> PresentedKeys:
    """Read the keys from the headers, with names in lower case as ASGI has them, and from the query string.

    `Authorization: Bearer` (RFC 6750; the scheme in any case, as RFC 9110 says) is the only one where it is there, else
    there may be the password of `Authorization: Basic` (RFC 7617), and `X-API-Key`, else ElevenLabs' `xi-api-key`, else
    the query's `api_key`.
    """
    password = api_key = eleven = None
    for name, value in headers:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            token = token.strip()
            scheme = scheme.lower()
            if token and scheme == b"bearer":
                return PresentedKeys(key=token)
            if scheme == b"basic":
                password = _read_password(token)
        elif name == b"x-api-key":
            api_key = value.strip()
        elif name == b"xi-api-key":
            eleven = value.strip()
    key = api_key or eleven or (_read_query_key(query) if b"api_key" in query else None)
    return PresentedKeys(password, key)


def _read_password(token: bytes) -> bytes | None:
    try:
        return base64.b64decode(token, validate=True).partition(b":")[2] or None
    except ValueError:
        return None


def _read_query_key(query: bytes) -> bytes | None:
    for field in query.split(b"&"):
        name, _, value = field.partition(b"=")
        if name == b"api_key" and value:
            return unquote_to_bytes(value.replace(b"+", b" "))
    return None


def mark_wrong_key(scope: MutableMapping[str, Any]) -> None:
    """Note in an ASGI scope that its request carries a wrong key, so that the answer to it is held back."""
    scope.setdefault("state", {})[_WRONG] = True


def has_wrong_key(scope: Mapping[str, Any]) -> bool:
    """Whether a request was found to carry a wrong key, in this scope or in one made from it."""
    return _WRONG in scope.get("state", ())
