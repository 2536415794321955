"""Which model a request names: in its JSON, its form, its query."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NoReturn, Protocol

from gateway.asgi import Message, find_header
from gateway.body import MemoryBudget, RequestBody, begin_body, check_length, hold_body, read_body
from gateway.body_stream import too_large
from gateway.errors import GatewayError
from gateway.exchange import Exchange
from gateway.model_name import find_model, missing_model, put_model, replace_model
from gateway.multipart import Upload, find_multipart_model, is_multipart
from gateway.urlencoded import find_form_model, is_urlencoded, replace_form_model

FORM_LIMIT_BYTES = 1024 * 1024
"""Largest form without files: looking through its fields must not hold up other requests."""
_QUERY_MODEL = b"model="
KeepReading = Callable[[], Awaitable[NoReturn]]


class NamedBody(Protocol):
    """A request's body with the model it names."""

    @property
    def model(self) -> str:
        """The name; "" when it names none."""

    @property
    def refusal(self) -> GatewayError | None:
        """Why it names none, when its body is at fault."""

    @property
    def keep_reading(self) -> KeepReading | None:
        """What watches the client while the body waits; None when all of it has come."""

    def ask_for(self, model: str | None) -> RequestBody:
        """The body to forward, asking for another model; None leaves every byte as it came. To be called last."""


class HeldBody:
    """A body that is held as a whole; `replace` writes another model into it, None can't.

    Or one that goes on as it comes and can't name a model.
    """

    keep_reading: KeepReading | None = None

    def __init__(
        self,
        body: RequestBody,
        model: str,
        *,
        replace: Callable[[bytes, str], bytes] | None = None,
        refusal: GatewayError | None = None,
    ) -> None:
        self.body = body
        self.model = model
        self.refusal = refusal
        self._replace = replace
        if body.stream is not None:
            self.keep_reading = body.stream.keep_reading

    def ask_for(self, model: str | None) -> RequestBody:
        """See `NamedBody`."""
        if model is None or model == self.model or self._replace is None:
            return self.body
        return hold_body(self._replace(self.body.data, model))


class UploadBody:
    """A form with files, most of it still on its way."""

    def __init__(self, upload: Upload, from_query: str) -> None:
        self.model = upload.model or from_query
        self.refusal = None if self.model else missing_model()
        self._upload = upload
        self.keep_reading: KeepReading | None = upload.keep_reading

    def ask_for(self, model: str | None) -> RequestBody:
        """See `NamedBody`."""
        if model is not None and model != self.model:
            self._upload.put_model(model)
        return self._upload.make_body()


async def read_named_body(
    exchange: Exchange, *, limit_bytes: int, upload_limit_bytes: int, spool_folder: str | None, budget: MemoryBudget
) -> NamedBody:
    """Read the body as far as needed to find the model.

    JSON is told by its first byte, whatever the content type says (llama-swap's reference, 8-12). The query's `model`
    counts when the body names none; what can't name one, such as a recording, then goes on as it comes. Raises
    `GatewayError` 400, 413 and 503, and `ClientGone`.
    """
    from_query = find_query_model(exchange.query)
    kind = find_header(exchange.headers, b"content-type")
    is_form = is_multipart(kind)
    if is_form or from_query:
        check_length(exchange.headers, upload_limit_bytes)  # before anything is asked for
    may_be_json = not (is_form or from_query) or is_urlencoded(kind) or _begins_object(await _peek(exchange))
    if not may_be_json and not is_form:
        return HeldBody(await begin_body(exchange, limit_bytes=upload_limit_bytes), from_query)
    if not may_be_json:
        upload = await find_multipart_model(exchange, max_upload_bytes=upload_limit_bytes, spool_folder=spool_folder)
        return UploadBody(upload, from_query)
    return name_body(kind, await read_body(exchange, limit_bytes, budget), from_query)


async def _peek(exchange: Exchange) -> bytes:
    """What comes first of the body; it will be received once more."""
    receive = exchange.receive
    first: Message | None = await receive()

    async def receive_again() -> Message:
        nonlocal first
        again, first = first, None
        return again if again is not None else await receive()

    exchange.receive = receive_again
    return b"" if first is None else first.get("body", b"")


def _begins_object(data: bytes) -> bool:
    return data.lstrip().startswith(b"{")


def name_body(kind: bytes | None, data: bytes, from_query: str) -> HeldBody:
    """A body that is here, whatever content type `kind` names unless it is a multipart one, with the model it names.

    Raises `GatewayError` 413 for a form that is too large.
    """
    if is_urlencoded(kind) and not _begins_object(data):
        if len(data) > FORM_LIMIT_BYTES:
            raise too_large(FORM_LIMIT_BYTES)
        model = find_form_model(data)
        name = model or from_query
        refusal = None if name else missing_model()
        return HeldBody(hold_body(data), name, replace=replace_form_model if model else None, refusal=refusal)
    if from_query and not data:
        return HeldBody(hold_body(data), from_query)
    try:
        return HeldBody(hold_body(data), find_model(data), replace=replace_model)
    except GatewayError as error:
        if not from_query:
            return HeldBody(hold_body(data), "", refusal=error)
        is_object = error.param == "model"
        return HeldBody(hold_body(data), from_query, replace=put_model if is_object else None)


def find_query_model(query: bytes) -> str:
    """The query's `model`, or ""."""
    return (find_form_model(query) or "") if _QUERY_MODEL in query else ""
