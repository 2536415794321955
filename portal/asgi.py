"""The ASGI application: the gateway first, then static files, log streams and WebSockets, Django for everything else.

Works under uvicorn (``corral web``) and under daphne (``runserver``), which knows no lifespan: the gateway then starts
with its first request.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from functools import partial
from typing import Any, cast

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()  # loads the apps, which the imports below need

from channels.auth import AuthMiddlewareStack
from channels.layers import get_channel_layer
from channels.routing import URLRouter
from django.conf import settings
from django.urls import re_path

from gateway.accounting import Recorder
from gateway.app import build_gateway
from gateway.asgi import ASGIApp, Message, Receive, Scope, Send
from gateway.browsers import is_browser
from gateway.config import GatewayConfig
from gateway.ledger import close_connection, note_keys, write_requests
from gateway.loader import RecordedUse, find_principal, load_snapshot
from gateway.passage import Client
from instances.consumers import websocket_urlpatterns
from instances.logs import http as logs
from instances.logs import root_http as root_logs
from instances.logs.hub import close_hub
from portal.cross_origin import answer_pages, make_policy
from portal.edge import BodyTooLarge, Edge, bound_body, refuse, restrict_answer
from portal.gateway_commands import InstanceCommands
from portal.origins import OriginGuard
from portal.refused_sockets import explain_refusal
from portal.sessions import find_session_principal
from portal.static import StaticFiles
from portal.wrong_keys import answer_slowly, close_slowly

HEALTH = ("/health", "/wol-health")
"""What pages for llama-swap may ask from anywhere, of Django's addresses."""


class Portal:
    """Hands each connection to the first part that knows it."""

    def __init__(self, *, static: StaticFiles, websockets: ASGIApp, pages: ASGIApp) -> None:
        self.static = static
        self.websockets = websockets
        self.pages = pages
        self.edge = Edge(
            trusted_proxies=settings.CORRAL.trusted_proxies,
            is_https=settings.CORRAL.https,
            allowed_hosts=settings.ALLOWED_HOSTS,
        )
        self.cors = make_policy(
            settings.CORRAL.allowed_origins, is_key_demanded=settings.CORRAL.require_management_auth
        )
        self.ending = asyncio.Event()
        self.gateway = build_gateway(
            make_gateway_config(),
            next_app=self.serve_rest,
            redis_url=settings.CORRAL.effective_redis_url,
            load_snapshot=load_snapshot,
            find_principal=find_principal,
            channel_layer=get_channel_layer(),
            session_principal=find_session_principal,
            commands=InstanceCommands(),
            recorder=Recorder(write=write_requests, note_keys=note_keys, close=close_connection),
            quota_source=RecordedUse(),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or the server's whole life (lifespan)."""
        if scope["type"] != "lifespan":
            if scope["type"] == "websocket":
                send = explain_refusal(scope, send)
            if not self.edge.is_open and (refusal := self.edge.admit(scope)):
                await refuse(scope, receive, send, refusal)
                return
            if scope["type"] == "http" and is_browser(scope["headers"]):
                send = restrict_answer(send)
            await self.gateway(scope, receive, send)
            return

        async def receive_and_close() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                self.end_streams()
                await close_hub()
            return message

        await self.gateway(scope, receive_and_close, send)

    def take(self, client: Client) -> bool:
        """Serve a request of Corral's own server at once if that can be done (`gateway.direct`).

        It passes the edge first, which corrects the scope for either way; who is refused there goes the usual way. So
        do browsers (`gateway.facts`), whose answers need more headers.
        """
        if not self.edge.is_open and self.edge.admit(client.scope):
            return False
        return self.gateway.take(client)

    async def serve_rest(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve what is not the gateway's."""
        if scope["type"] == "websocket":
            await self.websockets(scope, receive, close_slowly(scope, send))
        elif (file := self.static.find(scope["path"])) is not None:
            await self.static.serve(file, scope, receive, send)
        elif logs.handles(scope):
            await answer_pages(self.cors, partial(self.serve_log, logs.app), scope, receive, send)
        elif root_logs.handles(scope):
            await answer_pages(self.cors, partial(self.serve_log, root_logs.app), scope, receive, send)
        elif scope["path"].rstrip("/") in HEALTH:
            await answer_pages(self.cors, self.serve_django, scope, receive, send)
        else:
            await self.serve_django(scope, receive, send)

    async def serve_django(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a page or the management API."""
        try:
            await answer_slowly(self.pages, scope, bound_body(scope, receive), send)
        except BodyTooLarge as error:
            await refuse(scope, receive, send, error)

    async def serve_log(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream a log until the client leaves or the server stops; then the answer ends properly."""

        async def receive_until_end() -> Message:
            receiving, ending = asyncio.ensure_future(receive()), asyncio.ensure_future(self.ending.wait())
            try:
                await asyncio.wait({receiving, ending}, return_when=asyncio.FIRST_COMPLETED)
                return receiving.result() if receiving.done() else {"type": "http.disconnect"}
            finally:
                receiving.cancel()
                ending.cancel()

        await answer_slowly(app, scope, receive_until_end, send)
        if self.ending.is_set():
            with contextlib.suppress(RuntimeError):  # the answer was complete already
                await send({"type": "http.response.body", "body": b""})

    def end_streams(self) -> None:
        """End the streams that never end by themselves: they would hold up the server's stop."""
        self.ending.set()


async def refuse_socket(scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse a WebSocket at an address that has none."""
    await receive()
    await send({"type": "websocket.close", "code": 4404, "reason": "There is no WebSocket at this address."})


NO_SOCKET = re_path("", cast("Any", refuse_socket))  # Django's types know views only


def make_gateway_config() -> GatewayConfig:
    """Return the gateway's view of the settings."""
    corral = settings.CORRAL
    spool_folder = corral.data_dir / "spool"  # not the system's: that is often memory
    spool_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return GatewayConfig(
        spool_folder=str(spool_folder),
        require_inference_auth=corral.require_inference_auth,
        require_management_auth=corral.require_management_auth,
        has_metrics=corral.metrics,
        allowed_origins=tuple(corral.allowed_origins),
        queue_limit=corral.queue_limit,
        on_demand_start_timeout_s=corral.on_demand_start_timeout,
    )


def make_application() -> Portal:
    """Put the application together by the settings."""
    return Portal(
        static=StaticFiles(settings.STATIC_ROOT, settings.STATIC_URL),
        websockets=OriginGuard(AuthMiddlewareStack(URLRouter([*websocket_urlpatterns, NO_SOCKET]))),
        pages=cast("ASGIApp", django_application),
    )


application = make_application()
