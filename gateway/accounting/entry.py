"""One request as it is recorded: plain values, taken from an exchange that is over."""

from __future__ import annotations

import itertools
import secrets
import time
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from gateway.exchange import Exchange

RecordedOutcome = Literal["answered", "refused", "cancelled", "upstream_lost"]

CLIENT_CLOSED_REQUEST = 499
"""The status of a request whose client left before the end (nginx's number; HTTP has none)."""
_process = secrets.token_hex(8)
_numbers = itertools.count(1)


class RequestEntry(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What is kept of a request. Texts are as they came; whoever stores them bounds them.

    In JSON it is an array of its fields in their order.
    """

    request_id: str
    finished_at: float
    """Seconds since the epoch."""
    user_id: int | None
    key_id: int | None
    client_address: str
    instance_id: int | None
    instance_name: str
    backend_type: str
    requested_model: str
    path: str
    """Without the query, which may carry a key."""
    method: str
    status: int
    outcome: RecordedOutcome
    error_message: str
    streamed: bool
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    tokens_are_floor: bool
    """Whether more may have been generated than `completion_tokens`: the engine told less, or nothing."""
    prompt_per_second: float | None
    tokens_per_second: float | None
    queue_ms: int
    first_byte_ms: int | None
    """From the request's arrival to the head of the answer."""
    duration_ms: int
    user_name: str = ""
    """As it was when the request was let in: its person and key may be gone when it is stored."""
    key_name: str = ""


def next_request_id() -> str:
    """An id that no other request has, in any process."""
    return f"{_process}-{next(_numbers)}"


def end_reading(exchange: Exchange) -> None:
    """Set `usage` (and `error_message`, `is_streamed`) from the exchange's reader. Does nothing the second time."""
    reader = exchange.usage_reader
    if reader is None:
        return
    exchange.usage_reader = None
    exchange.is_streamed = reader.is_stream
    exchange.usage = reader.finish()
    if reader.error_message and not exchange.error_message:
        exchange.error_message = reader.error_message


def is_recorded(exchange: Exchange) -> bool:
    """Whether there is a row for this request: it named or reached an instance, or somebody known was refused.

    What strangers send where keys are demanded makes no rows, nor what only looks at an engine without a key: they
    could fill the table.
    """
    principal = exchange.principal
    if principal is None:
        return exchange.route is not None and exchange.outcome != "refused"
    if exchange.route is not None:
        return not exchange.is_metadata or principal.kind != "anonymous"
    return exchange.outcome == "refused" and principal.kind != "anonymous"


def make_entry(exchange: Exchange) -> RequestEntry:
    """The entry for an exchange that is over and whose reading has ended."""
    if not exchange.request_id:
        exchange.request_id = next_request_id()
    principal, route, usage = exchange.principal, exchange.route, exchange.usage
    received_s, first_byte_s = exchange.received_s, exchange.first_byte_s
    ended_s = exchange.ended_s or time.monotonic()
    return RequestEntry(
        exchange.request_id,
        time.time(),
        principal.user_id if principal is not None else None,
        principal.key_id if principal is not None else None,
        exchange.client_host,
        route.instance_id if route is not None else None,
        route.name if route is not None else "",
        route.backend_type if route is not None else "",
        exchange.model,
        exchange.path,
        exchange.method,
        exchange.status if exchange.outcome != "cancelled" else CLIENT_CLOSED_REQUEST,
        exchange.outcome,
        exchange.error_message,
        exchange.is_streamed,
        usage.prompt_tokens if usage is not None else 0,
        usage.completion_tokens if usage is not None else 0,
        usage.cached_tokens if usage is not None else 0,
        usage.is_floor if usage is not None else False,
        usage.prompt_per_second if usage is not None else None,
        usage.tokens_per_second if usage is not None else None,
        int(exchange.queued_s * 1000),
        int((first_byte_s - received_s) * 1000) if first_byte_s is not None else None,
        int((ended_s - received_s) * 1000),
        principal.user_name if principal is not None else "",
        principal.key_name if principal is not None else "",
    )
