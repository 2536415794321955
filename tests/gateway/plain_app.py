"""The forwarding parts of the gateway alone under a real uvicorn: no keys, one instance, uploads and WebSockets."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Self

import msgspec
import uvicorn

from gateway.activity import Activity
from gateway.asgi import Receive, Scope, Send, find_header
from gateway.body import begin_body
from gateway.errors import OPENAI, ClientGone, GatewayError, send_error
from gateway.exchange import Exchange
from gateway.forward import Forwarder
from gateway.multipart import Upload, find_multipart_model, is_multipart
from gateway.pool import ConnectionPool
from gateway.routes import RouteTable
from gateway.structs import Route, Snapshot
from gateway.websocket import relay_websocket
from tests.gateway.harness import Upstream, make_route, wait_until


class PlainApp:
    """Forwards everything to `route`; a form's model is replaced by `asked_model`, once `is_ready` is set."""

    def __init__(self, upstream: Upstream, **route: Any) -> None:
        self.route: Route = make_route(upstream, **route)
        self.routes = RouteTable()
        self.routes.replace(Snapshot(routes=(self.route,)))
        self.pool = ConnectionPool(connect_timeout_s=60.0, idle_timeout_s=4.0, max_idle=16)
        self.activity = Activity(self.routes, on_drain=lambda: None)
        self.forwarder = Forwarder(self.pool, self.activity)
        self.exchanges: list[Exchange] = []
        self.uploads: list[Upload] = []
        self.is_ready = asyncio.Event()
        self.is_ready.set()
        self.asked_model: str | None = None
        self.connect_timeout_s = 60.0
        self.max_upload_bytes = 4 * 1024**3
        self.spool_folder: str | None = None
        self.port = 0

    def change_route(self, **changes: Any) -> None:
        self.route = msgspec.structs.replace(self.route, **changes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            path, query = scope["raw_path"], scope["query_string"]
            await relay_websocket(
                scope,
                receive,
                send,
                route=self.route,
                path=path,
                query=query,
                activity=self.activity,
                connect_timeout_s=self.connect_timeout_s,
            )
        elif scope["type"] == "http":
            exchange = Exchange(scope, receive, send)
            self.exchanges.append(exchange)
            try:
                await self.serve(exchange)
            except GatewayError as error:
                exchange.outcome = "refused"
                exchange.status = error.status
                await send_error(send, error, OPENAI, [])
            except ClientGone:
                exchange.outcome = "cancelled"
            finally:
                exchange.release_body()

    async def serve(self, exchange: Exchange) -> None:
        if is_multipart(find_header(exchange.headers, b"content-type")):
            upload = await find_multipart_model(
                exchange, max_upload_bytes=self.max_upload_bytes, spool_folder=self.spool_folder
            )
            exchange.model = upload.model or ""
            self.uploads.append(upload)
            await self.wait_ready(upload)
            if self.asked_model is not None:
                upload.put_model(self.asked_model)
            body = upload.make_body()
        else:
            body = await begin_body(exchange)
        await self.forwarder.forward(exchange, self.route, exchange.raw_path, exchange.query, body)

    async def wait_ready(self, upload: Upload) -> None:
        """As the waiting line does it: a watcher beside the wait, cancelled when that is over."""
        if self.is_ready.is_set():
            return
        watcher: asyncio.Task[Any] = asyncio.create_task(upload.keep_reading())
        waiting = asyncio.create_task(self.is_ready.wait())
        try:
            done, _ = await asyncio.wait((watcher, waiting), return_when=asyncio.FIRST_COMPLETED)
            if watcher in done:
                watcher.result()
        finally:
            waiting.cancel()
            watcher.cancel()
            await asyncio.wait((watcher, waiting))

    async def __aenter__(self) -> Self:
        config = uvicorn.Config(
            self,
            port=0,
            log_level="critical",
            http="httptools",
            ws="websockets-sansio",
            lifespan="off",
            timeout_graceful_shutdown=1,
            ws_max_size=16 * 1024 * 1024,
            ws_per_message_deflate=False,
            proxy_headers=False,
        )
        self._server = uvicorn.Server(config)
        self._server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
        self._task = asyncio.create_task(self._server.serve())
        await wait_until(lambda: self._server.started)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = True
        await self._task
        self.pool.close()


BOUNDARY = b"----corral-test"
FORM_TYPE = f"Content-Type: multipart/form-data; boundary={BOUNDARY.decode()}"


def make_form(*parts: tuple[str, bytes]) -> bytes:
    """A form; a part's name may go on with parameters, as in `file"; filename="a.wav`."""
    pieces = [
        b'--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (BOUNDARY, name.encode(), value)
        for name, value in parts
    ]
    return b"".join(pieces) + b"--" + BOUNDARY + b"--\r\n"


FILE = 'file"; filename="speech.wav'
