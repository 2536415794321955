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
from gateway.dial import Dial
from gateway.errors import GatewayError
from gateway.structs import Principal, Quota, Route
from gateway.upstream import UpstreamConnection

Outcome = Literal["answered", "refused", "cancelled", "upstream_lost"]


class Exchange:
    """What is known about a request; filled in as it goes along, and handed to the accounting when it is over.

    Times are `time.monotonic()` seconds, None while the moment hasn't come. `status` is 0 while nothing was answered.
    """

    # What most requests leave as it is stands here once, instead of being written into each exchange.
    principal: Principal | None = None
    quotas: tuple[Quota, ...] = ()
    """The limits it was counted against, which what it uses is charged to; empty for one that may cost nothing."""
    route: Route | None = None
    admission: Admission | None = None
    """What the waiting line and the limits know about it; None when neither was concerned."""
    is_metadata = False
    """Whether it only looks at its engine: it needs no place there and doesn't count as use."""
    model = ""
    """The model as the client named it."""
    status = 0
    outcome: Outcome = "answered"
    sent_bytes = 0
    """Bytes of the answer's body handed to the web server."""
    first_byte_s: float | None = None
    ended_s: float | None = None
    queued_s = 0.0
    """Seconds that it waited for its instance to be ready."""

    # For the accounting
    request_id = ""
    """Corral's own id of this request; the accounting gives it one when there is none."""
    error_message = ""
    """Why it was refused."""
    is_streamed = False
    """Whether the answer was a stream of events."""
    usage: Usage | None = None
    usage_reader: UsageReader | None = None
    """Reads `usage` from the answer; fed with each piece after that was sent on."""

    release: Callable[[], None] | None = None
    """Gives back what a large request body takes up: its share of the memory, its temporary file."""

    # Only while it is being forwarded
    connection: UpstreamConnection | None = None
    dialling: Dial | None = None
    """The attempt to reach the instance, while there is one."""
    watcher: asyncio.Task[None] | None = None
    is_sent = True
    """False while a streamed request body is still on its way to the instance."""
    is_answered = False
    """Set before the end of the answer is sent: from then on the client may go."""
    client_gone = False
    upload_error: GatewayError | None = None

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: Headers = scope["headers"]
        self.extra_headers: Headers = []
        """Headers that every answer to this request carries."""
        self.received_s = time.monotonic()

    @property
    def client_host(self) -> str:
        """The client's address; empty when there is none."""
        client = self.scope.get("client")
        return client[0] if client else ""

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
        if self.dialling is not None:
            self.dialling.end()
        if self.connection is not None:
            self.connection.abort()
