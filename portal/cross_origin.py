"""Which other sites' pages may read health and logs: what clients of llama-swap call beside the gateway's routes."""

from __future__ import annotations

from functools import partial

from gateway.asgi import ASGIApp, Headers, Message, Receive, Scope, Send
from gateway.cors import CorsPolicy
from gateway.exchange import Exchange


def make_policy(allowed_origins: list[str], *, is_key_demanded: bool) -> CorsPolicy:
    """Return the policy for what belongs to the management API: without keys ``*`` would let every page read it."""
    return CorsPolicy(tuple(origin for origin in allowed_origins if is_key_demanded or origin != "*"))


async def answer_pages(policy: CorsPolicy, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Let the application answer, and add what lets pages of allowed origins read it; OPTIONS asks for that alone."""
    exchange = Exchange(scope, receive, send)
    headers = exchange.extra_headers = policy.answer_headers(exchange.headers)
    if exchange.method == "OPTIONS":
        await policy.answer_options(exchange)
    else:
        await app(scope, receive, partial(send_with, headers, send))


async def send_with(headers: Headers, send: Send, message: Message) -> None:
    """Send a message, with these headers too if it begins the answer."""
    if message["type"] == "http.response.start":
        message = {**message, "headers": [*message["headers"], *headers]}
    await send(message)
