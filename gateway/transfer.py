"""One request on its way to an instance and its answer on its way back: what both ways of carrying it share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.body import RequestBody
from gateway.exchange import Exchange
from gateway.structs import Route

if TYPE_CHECKING:
    from gateway.accounting.reader import UsageReader


class Transfer:
    """What is sent, and how far its answer has been sent on."""

    __slots__ = ("body", "exchange", "head", "is_begun", "path", "reader", "route", "sends_trailers")

    def __init__(self, exchange: Exchange, route: Route, path: bytes, open_head: bytes, body: RequestBody) -> None:
        """`open_head` is the head as `gateway.headers.build_request_head` writes it, without its end."""
        self.exchange = exchange
        self.route = route
        self.path = path
        """The path on the engine, without the query."""
        self.head = open_head + body.framing + b"\r\n"
        self.body = body
        self.is_begun = False
        """Whether the head of the answer has been sent on."""
        self.sends_trailers = False
        self.reader: UsageReader | None = None
        """Reads the usage from the answer; fed with each piece after that was sent on."""
