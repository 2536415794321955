"""One request on its way through the gateway, from arrival to the last byte."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Literal

from gateway.accounting.reader import UsageReader
from gateway.accounting.usage import Usage
from gateway.admission import Admission
from gateway.asgi import Headers, Receive, Scope, Send
from gateway.errors import GatewayError
from gateway.structs import Principal, Route
from gateway.upstream import UpstreamConnection

Outcome = Literal["answered", "refused", "cancelled", "upstream_lost"]


class Exchange:
    """What is known about a request; filled in as it goes along, and handed to the accounting when it is over.

    Times are `time.monotonic()` seconds, None while the moment hasn't come. `status` is 0 while nothing was answered.
    """

    __slots__ = (
        "admission",
        "client_gone",
        "connection",
        "dialling",
        "ended_s",
        "error_message",
        "extra_headers",
        "first_byte_s",
        "headers",
        "is_answered",
        "is_metadata",
        "is_sent",
        "is_streamed",
        "method",
        "model",
        "outcome",
        "path",
        "principal",
        "queued_s",
        "receive",
        "received_s",
        "release",
        "request_id",
        "route",
        "scope",
        "send",
        "sent_bytes",
        "status",
        "upload_error",
        "usage",
        "usage_reader",
        "watcher",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: Headers = scope["headers"]
        self.extra_headers: Headers = []
        """Headers that every answer to this request carries."""
        self.principal: Principal | None = None
        self.route: Route | None = None
        self.admission: Admission | None = None
        """What the waiting line and the limits know about it; None when neither was concerned."""
        self.is_metadata = False
        """Whether it only looks at its engine: it needs no place there and doesn't count as use."""
        self.model = ""
        """The model as the client named it."""
        self.status = 0
        self.outcome: Outcome = "answered"
        self.sent_bytes = 0
        """Bytes of the answer's body handed to the web server."""
        self.received_s = time.monotonic()
        self.first_byte_s: float | None = None
        self.ended_s: float | None = None
        self.queued_s = 0.0
        """Seconds that it waited for its instance to be ready."""

        # For the accounting
        self.request_id = ""
        """Corral's own id of this request; the accounting gives it one when there is none."""
        self.error_message = ""
        """Why it was refused."""
        self.is_streamed = False
        """Whether the answer was a stream of events."""
        self.usage: Usage | None = None
        self.usage_reader: UsageReader | None = None
        """Reads `usage` from the answer; fed with each piece after that was sent on."""

        self.release: Callable[[], None] | None = None
        """Gives back what a large request body takes up: its share of the memory, its temporary file."""

        # Only while it is being forwarded
        self.connection: UpstreamConnection | None = None
        self.dialling: asyncio.Timeout | None = None
        """Ends the attempt to reach the instance, while there is one."""
        self.watcher: asyncio.Task[None] | None = None
        self.is_sent = True
        """False while a streamed request body is still on its way to the instance."""
        self.is_answered = False
        """Set before the end of the answer is sent: from then on the client may go."""
        self.client_gone = False
        self.upload_error: GatewayError | None = None

    @property
    def query(self) -> bytes:
        """The query string as it came."""
        query: bytes = self.scope.get("query_string", b"")
        return query

    @property
    def raw_path(self) -> bytes:
        """The path as it came, percent-encoding included."""
        raw: bytes | None = self.scope.get("raw_path")
        return raw if raw is not None else self.path.encode()

    def abandon(self) -> None:
        """The client has gone: close the connection to the instance at once, so that it stops working for nobody."""
        if not self.is_answered:
            self.client_gone = True
            self._break_off()

    def fail_upload(self, error: GatewayError) -> None:
        """The rest of the request's body can't be sent on: there will be no answer but `error`."""
        self.upload_error = error
        self._break_off()

    def release_body(self) -> None:
        """Give back what the request's body takes up; for every exchange, as soon as its body isn't needed any more."""
        release, self.release = self.release, None
        if release is not None:
            release()

    def _break_off(self) -> None:
        if self.dialling is not None and not self.dialling.expired():
            self.dialling.reschedule(0)
        if self.connection is not None:
            self.connection.abort()
