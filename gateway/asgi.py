"""The three callables of an ASGI application (ASGI specification 3.0), named for the type checker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

Header = tuple[bytes, bytes]
Headers = list[Header]


def find_header(headers: Headers, name: bytes) -> bytes | None:
    """The first value of the header `name` (lower case, as ASGI delivers it), or None."""
    for key, value in headers:
        if key == name:
            return value
    return None
