"""Telling a streaming client what it waits for while its instance starts (llama-swap's `sendLoadingState`, 2.5).

The answer begins at once, as a stream of server-sent events. While the request waits, the client hears once a second
how far things are; then the engine's own events follow in the same answer. What goes wrong after that beginning can't
be a status any more: it becomes one error event in the form of the client's API, and nothing that says success follows.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from gateway.asgi import Headers, Message, find_header
from gateway.exchange import Exchange
from gateway.structs import Route

Voice = Literal["reasoning", "comment", "ping"]
"""How progress is told: as reasoning of the model, in comments, which no client shows, or in Anthropic's pings."""

HEADER = b"x-loading-state"
_PERIOD_S = 1.0
_MAX_ERROR_BYTES = 64 * 1024
_SHOWN_CHARACTERS = 1000
_MESSAGES = "/v1/messages"
_RESPONSES = "/v1/responses"
_VOICES: dict[str, Voice] = {"/v1/chat/completions": "reasoning", _MESSAGES: "ping", _RESPONSES: "comment"}
_HEAD: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]
_ANTHROPIC_TYPES = {429: "rate_limit_error", 503: "overloaded_error", 529: "overloaded_error"}


class _Wish(msgspec.Struct):
    stream: Any = False


def choose_voice(exchange: Exchange, route: Route, body: bytes) -> Voice | None:
    """How this request is told about loading; None when it isn't.

    Only a request that asks for a stream is told, at an address whose events Corral knows. The instance's option
    decides, and the header `X-Loading-State: reasoning|comment|off` overrides it for one request; where an API has no
    reasoning to write into, `reasoning` means its own way of keeping a client informed.
    """
    usual = _VOICES.get(exchange.path.rstrip("/"))
    if usual is None or exchange.method != "POST":
        return None
    wish = (find_header(exchange.headers, HEADER) or b"").strip().lower()
    is_wanted = wish in (b"reasoning", b"comment") or (route.sends_loading_state and wish != b"off")
    if not is_wanted or not _asks_for_stream(body):
        return None
    return "comment" if wish == b"comment" else usual


def _asks_for_stream(body: bytes) -> bool:
    try:
        return msgspec.json.decode(body, type=_Wish).stream is True
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


class LoadingStream:
    """Begins an exchange's answer early and joins what is sent later onto it.

    It takes the place of `exchange.send`: whoever answers the exchange, engine or gateway, needn't know.
    """

    def __init__(self, exchange: Exchange, voice: Voice) -> None:
        self._exchange = exchange
        self._voice = voice
        self._send = exchange.send
        self._path = exchange.path.rstrip("/")
        self._id = f"chatcmpl-{os.urandom(12).hex()}"
        self._created = int(time.time())
        self._began_s = 0.0
        self._ticker: asyncio.Task[None] | None = None
        self._passes_on = False
        self._status = 0
        self._error = bytearray()

    async def begin(self, describe: Callable[[], str]) -> None:
        """Begin the answer, unless that is done, and tell `describe()` once a second until `end` or `pause`."""
        if not self._began_s:
            self._began_s = time.monotonic()
            exchange = self._exchange
            # The engine must not compress what follows what was said in plain text.
            exchange.headers = [(name, value) for name, value in exchange.headers if name != b"accept-encoding"]
            exchange.send = self.send
            headers = _HEAD + exchange.extra_headers
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
            await self._say(f"Loading model {exchange.model}\n")
        self._ticker = asyncio.create_task(self._tell(describe), name="gateway-loading")

    async def pause(self) -> None:
        """Say nothing for now."""
        ticker, self._ticker = self._ticker, None
        if ticker is not None:
            ticker.cancel()
            await asyncio.wait((ticker,))

    async def end(self) -> None:
        """Say that the instance is ready."""
        await self.pause()
        await self._say(f"done ({time.monotonic() - self._began_s:.1f} s)\n\n")

    async def send(self, message: Message) -> None:
        """What the engine, or the gateway in its stead, answers: ASGI messages, as `exchange.send` takes them."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._passes_on = self._status == 200 and _is_plain_stream(message["headers"])
        elif message["type"] == "http.response.body":
            if self._passes_on:
                await self._send(message)
                return
            self._error += message.get("body", b"")[: _MAX_ERROR_BYTES - len(self._error)]
            if not message.get("more_body", False):
                body = self._render_error()
                await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def _tell(self, describe: Callable[[], str]) -> None:
        while True:
            await asyncio.sleep(_PERIOD_S)
            try:
                await self._say(f"{describe()}, {time.monotonic() - self._began_s:.0f} s\n")
            except OSError:  # some web servers say so when the client has gone; the line notices by itself
                return

    async def _say(self, text: str) -> None:
        if self._voice == "ping":
            event = b'event: ping\ndata: {"type":"ping"}\n\n'
        elif self._voice == "comment":
            event = b": %s\n\n" % " ".join(text.split()).encode()
        else:
            event = b"data: %s\n\n" % msgspec.json.encode(self._make_chunk(text))
        await self._send({"type": "http.response.body", "body": event, "more_body": True})

    def _make_chunk(self, text: str) -> dict[str, Any]:
        """A chunk of OpenAI's API. The role is the engine's to say, since clients join what is repeated."""
        return {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._exchange.model,
            "choices": [{"index": 0, "delta": {"reasoning_content": text}, "finish_reason": None}],
        }

    def _render_error(self) -> bytes:
        error = _read_error(bytes(self._error), self._status)
        if self._path == _MESSAGES:
            # As the other form of the same refusal would say it.
            fallback = "api_error" if self._status >= 500 else "invalid_request_error"
            kind = error["type"] if "code" not in error else _ANTHROPIC_TYPES.get(self._status, fallback)
            told = {"type": "error", "error": {"type": kind, "message": error["message"]}}
            return b"event: error\ndata: %s\n\n" % msgspec.json.encode(told)
        if self._path == _RESPONSES:
            flat = {"type": "error", "sequence_number": 0, **{key: error.get(key) for key in _FLAT}}
            return b"event: error\ndata: %s\n\n" % msgspec.json.encode(flat)
        return b"data: %s\n\n" % msgspec.json.encode({"error": error})


_FLAT = ("code", "message", "param")


def _is_plain_stream(headers: Headers) -> bool:
    kind = find_header(headers, b"content-type") or b""
    coding = find_header(headers, b"content-encoding") or b"identity"
    return kind.startswith(b"text/event-stream") and coding == b"identity"


def _read_error(body: bytes, status: int) -> dict[str, Any]:
    """The error object of an answer that isn't a stream, whatever its form; made up where there is none."""
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        content = None
    found = content.get("error") if isinstance(content, dict) else None
    if isinstance(found, dict) and isinstance(found.get("message"), str):
        return {"type": "server_error", **found}
    if isinstance(found, str):
        details = content.get("details") if isinstance(content, dict) else None
        message = details if isinstance(details, str) else found
    elif status == 200:
        message = "The engine answered, but not with a stream"
    else:
        text = body.decode("utf-8", "replace").strip()[:_SHOWN_CHARACTERS]
        message = f"The engine answered with status {status}" + (f": {text}" if text else "")
    kind = "server_error" if status >= 500 or status == 200 else "invalid_request_error"
    return {"message": message, "type": kind, "code": None, "param": None}
