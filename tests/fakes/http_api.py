"""The HTTP side of the fake engine.

Public: ``GET /health`` (200 or 503 while loading), ``GET /v1/models`` and ``/models``, ``GET /stats``.
With the key, if there is one: ``POST /v1/chat/completions``, ``/v1/completions`` (whole and streamed),
``/v1/embeddings`` and ``/v1/audio/transcriptions`` (the text is the form's size and SHA-256); any method ``/echo...``
(method, path, headers and body as JSON), ``/upload`` (size and SHA-256 of a body that is read in pieces), ``GET
/download?bytes=N`` (N times "x" with a length), ``/status/<code>`` (that status; ``?body=``), ``/sleep?seconds=S``,
``/crash?code=N`` (the process exits without an answer), ``/cut`` (half a chunked answer, then the connection closes),
``GET /ws`` with an upgrade (echoes text and binary messages).

``/stats`` counts ``requests``, ``active`` and ``left`` (streams whose client went away before the end).
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from websocket_echo import echo_messages

PIECE = 64 * 1024
PUBLIC = {"/health", "/models", "/v1/models", "/stats"}
INFERENCE = {"/v1/chat/completions", "/v1/completions", "/v1/embeddings"}
TRANSCRIPTIONS = "/v1/audio/transcriptions"


class FakeApi:
    """What all connections of one server share."""

    def __init__(
        self,
        *,
        model: str,
        api_keys: Sequence[str],
        ready_at: float,
        tokens: int,
        token_pause: float,
        answer_delay: float,
        log: Callable[[str], None] | None,
    ) -> None:
        self.model = model
        self.allowed = [f"Bearer {key}" for key in api_keys]
        self.ready_at = ready_at
        self.tokens = tokens
        self.token_pause = token_pause
        self.answer_delay = answer_delay
        self.log = log
        self.counts = {"requests": 0, "active": 0, "left": 0}
        self._lock = threading.Lock()

    def count(self, name: str, change: int = 1) -> None:
        """Change a counter of /stats."""
        with self._lock:
            self.counts[name] += change


class FakeServer(ThreadingHTTPServer):
    """A thread per connection. Raises OSError when the port can't be bound."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], api: FakeApi) -> None:
        self.api = api
        super().__init__(address, Handler)

    def server_bind(self) -> None:
        """Bind without the look-up of the host's name that the base class makes."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = str(self.server_address[0]), self.socket.getsockname()[1]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: FakeServer

    def handle_one_request(self) -> None:
        """Serve one request; a client that leaves is no error."""
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Only requests are logged, by `_serve`."""

    def _serve(self) -> None:
        api = self.server.api
        path = urlsplit(self.path).path
        if path not in PUBLIC:
            api.count("requests")
            api.count("active")
        try:
            self._route(path)
        finally:
            if path not in PUBLIC:
                api.count("active", -1)
            if api.log:
                api.log(f"{self.command} {self.path}")

    def __getattr__(self, name: str) -> Callable[[], None]:
        """Every method of HTTP but HEAD goes the same way."""
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def do_HEAD(self) -> None:
        """The headers of /health only."""
        self.send_response(200 if self._is_ready() else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _route(self, path: str) -> None:
        api = self.server.api
        if path == "/stats":
            self._answer(200, api.counts)
        elif not self._is_ready():
            self._drop_body()
            self._fail(503, "Loading model", "unavailable_error")
        elif path == "/health":
            self._answer(200, {"status": "ok"})
        elif path in PUBLIC:
            entry = {"id": api.model, "object": "model", "created": int(time.time()), "owned_by": "fake"}
            self._answer(200, {"object": "list", "data": [entry]})
        elif api.allowed and self.headers.get("Authorization") not in api.allowed:
            self._drop_body()
            self._fail(401, "Invalid API Key", "authentication_error")
        elif self.command == "POST" and path in INFERENCE:
            self._infer(path)
        elif self.command == "POST" and path == TRANSCRIPTIONS:
            size, digest = self._read_upload()
            self._answer(200, {"text": f"{size} {digest}"})
        else:
            self._play(path.split("/")[1])

    def _play(self, name: str) -> None:
        """The paths that no engine has."""
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        actions: dict[str, Callable[[], None]] = {
            "echo": self._echo,
            "upload": self._measure_upload,
            "download": lambda: self._download(int(query.get("bytes", "0"))),
            "crash": lambda: os._exit(int(query.get("code", "1")) & 0xFF),
            "cut": self._cut,
            "ws": lambda: echo_messages(self),
        }
        if name in actions:
            actions[name]()
            return
        self._drop_body()
        if name == "status":
            self._send(int(parts.path.split("/")[2]), query.get("body", "").encode(), "text/plain")
        elif name == "sleep":
            time.sleep(float(query.get("seconds", "1")))
            self._answer(200, {"status": "ok"})
        else:
            self._fail(404, "File Not Found", "not_found_error")

    def _cut(self) -> None:
        self._drop_body()
        self._begin_stream("text/plain")
        self.wfile.write(b"10\r\nhalf of it")
        self.close_connection = True

    def _is_ready(self) -> bool:
        return time.monotonic() >= self.server.api.ready_at

    def _infer(self, path: str) -> None:
        api = self.server.api
        try:
            request = json.loads(b"".join(self._read_body()))
            assert isinstance(request, dict)
        except (ValueError, AssertionError):
            self._fail(400, "the body must be a JSON object", "invalid_request_error")
            return
        time.sleep(api.answer_delay)
        if path == "/v1/embeddings":
            vector = {"object": "embedding", "index": 0, "embedding": [0.25, -0.5, 1.0]}
            usage = {"prompt_tokens": 3, "total_tokens": 3}
            self._answer(200, {"object": "list", "model": request.get("model"), "data": [vector], "usage": usage})
            return
        answer = _Answer(path == "/v1/chat/completions", request, api)
        if request.get("stream"):
            self._stream(answer)
            return
        time.sleep(api.token_pause * answer.length)
        self._answer(200, answer.whole())

    def _stream(self, answer: _Answer) -> None:
        self._begin_stream("text/event-stream")
        try:
            for event in answer.events():
                text = f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n".encode()
                self.wfile.write(b"%x\r\n%b\r\n" % (len(text), text))
            self.wfile.write(b"0\r\n\r\n")
        except ConnectionError:
            self.server.api.count("left")
            raise

    def _begin_stream(self, content_type: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _echo(self) -> None:
        body = b"".join(self._read_body())
        self._answer(
            200,
            {
                "method": self.command,
                "path": self.path,
                "headers": [[name, value] for name, value in self.headers.items()],
                "body": body.decode("utf-8", "replace"),
                "client": list(self.client_address[:2]),
            },
        )

    def _measure_upload(self) -> None:
        size, digest = self._read_upload()
        self._answer(200, {"bytes": size, "sha256": digest})

    def _read_upload(self) -> tuple[int, str]:
        digest = hashlib.sha256()
        size = 0
        for piece in self._read_body():
            digest.update(piece)
            size += len(piece)
        return size, digest.hexdigest()

    def _download(self, size: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(size))
        self.end_headers()
        try:
            for start in range(0, size, PIECE):
                self.wfile.write(b"x" * min(PIECE, size - start))
        except ConnectionError:
            self.server.api.count("left")
            raise

    def _read_body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return
        rest = int(self.headers.get("Content-Length") or 0)
        while rest:
            piece = self.rfile.read(min(PIECE, rest))
            if not piece:
                raise ConnectionAbortedError
            rest -= len(piece)
            yield piece

    def _drop_body(self) -> None:
        for _ in self._read_body():
            pass

    def _answer(self, status: int, content: object) -> None:
        self._send(status, json.dumps(content).encode(), "application/json")

    def _fail(self, status: int, message: str, kind: str) -> None:
        self._answer(status, {"error": {"code": status, "message": message, "type": kind}})

    def _send(self, status: int, content: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class _Answer:
    """The tokens "tok0 tok1 ..." in the shapes of OpenAI's API, with llama-server's timings."""

    def __init__(self, is_chat: bool, request: dict[str, object], api: FakeApi) -> None:
        limit = request.get("max_completion_tokens") or request.get("max_tokens")
        self.length = min(api.tokens, limit) if isinstance(limit, int) else api.tokens
        self._finish = "length" if self.length < api.tokens else "stop"
        self._is_chat = is_chat
        self._pause = api.token_pause
        prompt = request.get("messages") if is_chat else request.get("prompt")
        prompt_tokens = len(json.dumps(prompt).split())
        self._usage = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": self.length,
            "total_tokens": prompt_tokens + self.length,
        }
        self._timings = {
            "prompt_n": prompt_tokens,
            "prompt_per_second": 1000.0,
            "predicted_n": self.length,
            "predicted_per_second": 1 / self._pause if self._pause else 10_000.0,
        }
        options = request.get("stream_options")
        self._includes_usage = isinstance(options, dict) and options.get("include_usage") is True
        self._head = {"id": "fake-1", "created": int(time.time()), "model": request.get("model") or api.model}

    def whole(self) -> dict[str, object]:
        """The answer in one piece."""
        text = "".join(f"tok{number} " for number in range(self.length))
        content = {"message": {"role": "assistant", "content": text}} if self._is_chat else {"text": text}
        choice = {"index": 0, "finish_reason": self._finish, **content}
        kind = "chat.completion" if self._is_chat else "text_completion"
        return {**self._head, "object": kind, "choices": [choice], "usage": self._usage, "timings": self._timings}

    def events(self) -> Iterator[dict[str, object] | str]:
        """The answer as server-sent events; usage only when it was asked for, as OpenAI does."""
        if self._is_chat:
            yield self._event({"delta": {"role": "assistant", "content": None}})
        for number in range(self.length):
            time.sleep(self._pause)
            text = f"tok{number} "
            yield self._event({"delta": {"content": text}} if self._is_chat else {"text": text})
        last = {"delta": {}} if self._is_chat else {"text": ""}
        yield {**self._event(last, self._finish), "timings": self._timings}
        if self._includes_usage:
            yield {**self._event(None), "usage": self._usage}
        yield "[DONE]"

    def _event(self, content: dict[str, object] | None, finish: str | None = None) -> dict[str, object]:
        kind = "chat.completion.chunk" if self._is_chat else "text_completion"
        choices = [] if content is None else [{"index": 0, **content, "finish_reason": finish}]
        return {**self._head, "object": kind, "choices": choices}
