"""Answers to wrong keys on what the gateway does not answer itself: they wait in its brake, which counts them all."""

from __future__ import annotations

from accounts.credentials import has_wrong_key
from gateway.asgi import ASGIApp, Headers, Message, Receive, Scope, Send
from gateway.brake import BRAKE
from gateway.error_form import answer_error
from gateway.errors import MANAGEMENT, GatewayError
from gateway.exchange import Exchange
from instances.consumers import TRY_AGAIN_LATER


async def answer_slowly(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Let the application answer; to a wrong key the answer comes late or is a 429, as on the gateway's routes.

    It is held when the application has done its work: what waits keeps no thread and no connection to the database.
    """
    held: list[Message] = []
    has_begun = False

    async def send_or_hold(message: Message) -> None:
        nonlocal has_begun
        if has_begun or not has_wrong_key(scope):
            has_begun = True
            await send(message)
        else:
            held.append(message)

    await app(scope, receive, send_or_hold)
    if not held:
        return
    exchange = Exchange(scope, receive, send)
    try:
        await BRAKE.hold_answer(exchange.client_host)
    except GatewayError as error:
        exchange.extra_headers = pick_cross_origin(held[0]["headers"])
        await answer_error(exchange, error, MANAGEMENT)
    else:
        for message in held:
            await send(message)


def pick_cross_origin(headers: Headers) -> Headers:
    """Return the headers by which other sites' pages may read an answer."""
    return [header for header in headers if header[0].lower().startswith((b"access-control-", b"vary"))]


def close_slowly(scope: Scope, send: Send) -> Send:
    """Return a ``send`` for a WebSocket that is closed late if it was opened with a wrong key."""
    scope.setdefault("state", {})  # else the scopes made from this one would have their own
    client = scope.get("client")

    async def send_or_hold(message: Message) -> None:
        if message["type"] == "websocket.close" and has_wrong_key(scope):
            try:
                await BRAKE.hold_answer(client[0] if client else "")
            except GatewayError as error:
                message = {"type": "websocket.close", "code": TRY_AGAIN_LATER, "reason": error.message}
        await send(message)

    return send_or_hold
