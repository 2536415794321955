"""Exchanges and entries for tests of the accounting."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from gateway.accounting.entry import RequestEntry, next_request_id
from gateway.asgi import Message
from gateway.exchange import Exchange
from gateway.structs import Principal, Route

KEY = Principal(kind="inference", key_id=1, user_id=1, instances=None)
ROUTE = Route(instance_id=7, name="alpha", backend_type="llama_cpp", state="ready", state_changed_at=0.0)
PLAIN = RequestEntry(
    request_id="",
    finished_at=0.0,
    user_id=None,
    key_id=None,
    client_address="127.0.0.1",
    instance_id=7,
    instance_name="alpha",
    backend_type="llama_cpp",
    requested_model="alpha",
    path="/v1/chat/completions",
    method="POST",
    status=200,
    outcome="answered",
    error_message="",
    streamed=False,
    prompt_tokens=20,
    completion_tokens=50,
    cached_tokens=8,
    tokens_are_floor=False,
    prompt_per_second=400.5,
    tokens_per_second=100.25,
    queue_ms=0,
    first_byte_ms=5,
    duration_ms=30,
)


def make_entry(**changes: Any) -> RequestEntry:
    """An answered request that has just ended."""
    fresh = {"request_id": next_request_id(), "finished_at": time.time()}
    return msgspec.structs.replace(PLAIN, **(fresh | changes))


async def receive() -> Message:
    raise AssertionError


async def send(message: Message) -> None:
    raise AssertionError


def make_exchange(path: str = "/v1/chat/completions", **fields: Any) -> Exchange:
    """An exchange that was answered by instance 7 for key 1, with these attributes instead."""
    scope = {"type": "http", "method": "POST", "path": path, "headers": [], "client": ("10.0.0.9", 1234)}
    exchange = Exchange(scope, receive, send)
    values = {"principal": KEY, "route": ROUTE, "model": "alpha", "status": 200, "outcome": "answered"}
    for name, value in (values | fields).items():
        setattr(exchange, name, value)
    return exchange
