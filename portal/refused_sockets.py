"""Telling those who are refused a WebSocket why, in the answer to their handshake: it would have no body otherwise."""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from gateway.asgi import Message, Scope, Send
from gateway.websocket import RESPONSE, answer_handshake

_UNNAMED = HTTPStatus.FORBIDDEN
"""The server's own answer when a WebSocket is closed before it was accepted."""


def explain_refusal(scope: Scope, send: Send) -> Send:
    """`send` for a WebSocket: closing it as 4404 before it is accepted answers 404 with the reason, and so on.

    Where the server can't do that, nothing changes.
    """
    if RESPONSE not in scope.get("extensions", ()):
        return send
    is_accepted = False

    async def send_or_explain(message: Message) -> None:
        nonlocal is_accepted
        is_accepted = is_accepted or message["type"] == "websocket.accept"
        if is_accepted or message["type"] != "websocket.close":
            await send(message)
            return
        status = read_status(message.get("code", 1000))
        word = status.phrase.lower().replace(" ", "_")
        details = message.get("reason") or "The WebSocket is refused."
        await answer_handshake(send, status, msgspec.json.encode({"error": word, "details": details}), [])

    return send_or_explain


def read_status(code: int) -> HTTPStatus:
    """The HTTP status that Corral's close codes are made of."""
    try:
        return HTTPStatus(code - 4000) if 4400 <= code < 4600 else _UNNAMED
    except ValueError:
        return _UNNAMED
