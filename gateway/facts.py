"""What follows from a head alone, worked out once for all messages that come with the same head (`known_head`)."""

from __future__ import annotations

from typing import NamedTuple

from gateway.asgi import Headers, Scope, find_header
from gateway.browsers import is_browser
from gateway.headers import filter_answer_headers, write_lines
from gateway.keys import drop_query_key, hash_key, read_credential
from gateway.multipart import is_multipart
from gateway.structs import Route


class SentHead(NamedTuple):
    """A head as it went to an engine."""

    route: Route
    client_host: str
    open_head: bytes
    """As `Transfer` takes it."""


class RequestFacts:
    """Of a request, once the edge has admitted it."""

    __slots__ = ("can_go_directly", "content_type", "digest", "query", "raw_path", "sent")

    can_go_directly: bool
    """Whether it may take the short way (`gateway.direct`) as far as its head is concerned. Else no more is known."""
    digest: str | None
    """The hash of the key, None without one."""
    sent: SentHead | None
    """How the last request with this head was sent."""

    def __init__(self, scope: Scope) -> None:
        headers, query, path = scope["headers"], scope["query_string"], scope["path"]
        self.content_type = find_header(headers, b"content-type")
        self.can_go_directly = (
            scope["method"] == "POST"
            and path.startswith("/v1/")
            and not path.startswith("/v1/models")
            and not is_multipart(self.content_type)
            and b"model" not in query  # which may name one
            and not is_browser(headers)  # whose answers say more
        )
        if self.can_go_directly:
            credential = read_credential(headers, query)
            self.digest = None if credential is None else hash_key(credential)
            self.query = drop_query_key(query)
            self.raw_path: bytes = scope["raw_path"].rstrip(b"/")
            self.sent = None


class AnswerFacts:
    """Of an engine's answer to a POST, that has a body of an announced length."""

    __slots__ = ("has_date", "lines")

    def __init__(self, headers: Headers) -> None:
        kept = filter_answer_headers(headers, drop_length=False)
        self.lines = write_lines([header for header in kept if header[0] != b"content-length"])
        """The header lines for the client, without the length."""
        self.has_date = find_header(kept, b"date") is not None
