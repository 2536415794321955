"""Which model a request names: in its JSON, its form, its query."""

from __future__ import annotations

from urllib.parse import parse_qsl

from gateway.asgi import find_header
from gateway.body import RequestBody, hold_body, read_body
from gateway.errors import GatewayError
from gateway.exchange import Exchange
from gateway.model_name import find_model, replace_model

_QUERY_MODEL = b"model="
_FORM = b"application/x-www-form-urlencoded"
_MAX_FIELDS = 1000


class NamedBody:
    """A request's body with the model it names; "" when it names none. `refusal` says why, if the body is at fault."""

    def __init__(self, body: RequestBody, model: str, *, is_json: bool = False) -> None:
        self.body = body
        self.model = model
        self.refusal: GatewayError | None = None
        self._is_json = is_json

    def ask_for(self, model: str | None) -> RequestBody:
        """The body that asks for another model; None, or what it names already, leaves every byte as it came."""
        if model is None or model == self.model or not self._is_json:
            return self.body
        return hold_body(replace_model(self.body.data, model))


async def read_named_body(exchange: Exchange, limit_bytes: int) -> NamedBody:
    """Read the body as far as needed to find the model.

    JSON is told by its first byte, whatever the content type says (llama-swap's reference, 8-12). The query's `model`
    counts when the body names none. Raises `GatewayError` 400 and 413, and `ClientGone`.
    """
    from_query = find_query_model(exchange.query)
    data = await read_body(exchange, limit_bytes)
    body = hold_body(data)
    kind = find_header(exchange.headers, b"content-type") or b""
    if kind.startswith(_FORM) and not data.lstrip().startswith(b"{"):
        return NamedBody(body, _find_field(data) or from_query)
    if not data and from_query:
        return NamedBody(body, from_query)
    try:
        return NamedBody(body, find_model(data), is_json=True)
    except GatewayError as error:
        named = NamedBody(body, from_query)
        named.refusal = None if from_query else error
        return named


def find_query_model(query: bytes) -> str:
    """The query's `model`, or ""."""
    return _find_field(query) if _QUERY_MODEL in query else ""


def _find_field(form: bytes) -> str:
    try:
        fields = parse_qsl(form.decode("latin-1"), max_num_fields=_MAX_FIELDS)
    except ValueError as error:
        message = f"Invalid request: it has more than {_MAX_FIELDS} form fields"
        raise GatewayError(400, "invalid_request", message) from error
    return next((value for name, value in fields if name == "model"), "")
