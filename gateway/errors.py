"""Refusals of the gateway, and the forms in which clients expect them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway.asgi import Headers, Send

ErrorForm = str
OPENAI: ErrorForm = "openai"
"""`{"error": {"message", "type", "code", "param"}}`, the form of OpenAI's API reference."""
ANTHROPIC: ErrorForm = "anthropic"
"""`{"type": "error", "error": {"type", "message"}}`, the form of Anthropic's API reference."""
MANAGEMENT: ErrorForm = "management"
"""`{"error": code, "details": text}`, the form of the management API."""
STRING: ErrorForm = "string"
"""`{"error": text}`, the form of llama-swap's and llamactl's published references."""

_OPENAI_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    409: "conflict_error",
    429: "rate_limit_error",
    501: "not_supported_error",
    503: "unavailable_error",
    504: "timeout_error",
}
ANTHROPIC_OVERLOADED = 529
"""The status by which Anthropic's clients know that they should try again later."""
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    501: "invalid_request_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_ANTHROPIC_STATUSES = {501: 400, 503: ANTHROPIC_OVERLOADED}
"""Where Anthropic's API uses another status for the same."""
_FINAL = frozenset(
    ("instance_disabled", "instance_not_running", "instance_start_failed", "model_not_loaded", "not_supported")
)
"""What a repetition doesn't mend, unless the refusal itself recommends one."""
_NO_RETRY = (b"x-should-retry", b"false")
"""Keeps OpenAI's and Anthropic's clients from repeating a request, as they do with every 409 and 5xx."""


class GatewayError(Exception):
    """A request that is answered by the gateway itself.

    `status` is the HTTP status, `code` the machine-readable word, `message` the sentence for people, `param` the name
    of the offending field, `retry_after_s` the wait after which the same request may succeed, `allow` the methods that
    a 405 recommends.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: int | None = None,
        allow: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.allow = allow

    @property
    def headers(self) -> Headers:
        """What the answer says in its head, in whichever form."""
        headers: Headers = []
        if self.retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % self.retry_after_s))
        elif self.is_final:
            headers.append(_NO_RETRY)
        if self.status == 413:
            # Nobody wants to read the rest of the body.
            headers.append((b"connection", b"close"))
        if self.allow:
            headers.append((b"allow", self.allow.encode()))
        return headers

    @property
    def is_final(self) -> bool:
        """Whether sending the same request again is of no use until somebody did something about it."""
        return self.retry_after_s is None and self.code in _FINAL


class KeyRejected(GatewayError):
    """No key, or one that isn't valid; always answered in a nested error object, on management routes too."""

    def __init__(self, message: str) -> None:
        super().__init__(401, "invalid_api_key", message)


class ClientGone(Exception):
    """The client closed its connection; there's nobody left to answer."""


def missing_key() -> KeyRejected:
    """The refusal of a request without a key."""
    return KeyRejected("Missing API key")


def invalid_key() -> KeyRejected:
    """The refusal of an unknown, expired or revoked key, and of an inference key on a management route."""
    return KeyRejected("Invalid API key")


def unknown_instance(name: str, *, param: str | None = None) -> GatewayError:
    """The refusal of a name that no instance has."""
    return GatewayError(404, "invalid_instance", f"instance with name {name} not found", param=param)


def unknown_model(name: str) -> GatewayError:
    """The refusal of a model that no instance serves, in llama-swap's words."""
    return GatewayError(404, "model_not_found", f"model '{name}' not found in config", param="model")


_NAMED_AT_MOST = 5


def no_model(ready: Sequence[str]) -> GatewayError:
    """The refusal of a request that names no model where none can be guessed: llama-swap's words, then the reason.

    `ready` are the names of the ready instances that the key may use.
    """
    if ready:
        more = ", ..." if len(ready) > _NAMED_AT_MOST else ""
        reason = f"{len(ready)} instances are ready ({', '.join(ready[:_NAMED_AT_MOST])}{more})"
    else:
        reason = "no instance that this key may use is ready"
    message = f"no model id could be identified: the request names no model, and {reason}; name one as `model`"
    return GatewayError(404, "model_not_found", message, param="model")


def wrong_method(method: str, path: str, allowed: str) -> GatewayError:
    """The refusal of a method that an address doesn't know; `allowed` is the value of the `Allow` header."""
    message = f"{method} {path} is not served; use {allowed.replace(', ', ' or ')}"
    return GatewayError(405, "method_not_allowed", message, allow=allowed)


def forbidden_instance() -> GatewayError:
    """The refusal of an instance that the key may not use."""
    return GatewayError(403, "permission_denied", "permission denied: key does not have access to this instance")


def render_error(error: GatewayError, form: ErrorForm) -> bytes:
    """The JSON body of `error` in one of the three forms."""
    if form == MANAGEMENT and not isinstance(error, KeyRejected):
        return msgspec.json.encode({"error": error.code, "details": error.message})
    if form == STRING:
        return msgspec.json.encode({"error": error.message})
    if form == ANTHROPIC:
        fallback = "api_error" if error.status >= 500 else "invalid_request_error"
        kind = _ANTHROPIC_TYPES.get(error.status, fallback)
        return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": error.message}})
    fallback = "server_error" if error.status >= 500 else "invalid_request_error"
    kind = _OPENAI_TYPES.get(error.status, fallback)
    body = {"message": error.message, "type": kind, "code": error.code, "param": error.param}
    return msgspec.json.encode({"error": body})


async def send_error(send: Send, error: GatewayError, form: ErrorForm, headers: Headers) -> None:
    """Answer with `error`; `headers` are added to its own."""
    status = _ANTHROPIC_STATUSES.get(error.status, error.status) if form == ANTHROPIC else error.status
    await send_json(send, status, render_error(error, form), error.headers + headers)


async def send_json(send: Send, status: int, body: bytes, headers: Headers) -> None:
    """Answer with a complete JSON body."""
    own = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": own + headers})
    await send({"type": "http.response.body", "body": body})
