"""The ASGI application: static files, the gateway, log streams, WebSockets, and Django for everything else.

Works under uvicorn (``corral web``) and under daphne (``runserver``), which has no lifespan protocol.
"""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()  # loads the apps, which the imports below need

from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.conf import settings

from gateway.asgi import ASGIApp, Receive, Scope, Send
from portal.static import StaticFiles


class Portal:
    """Hands each connection to the first part that knows it."""

    def __init__(self, *, static: StaticFiles, websockets: ASGIApp, pages: ASGIApp) -> None:
        self.static = static
        self.websockets = websockets
        self.pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "websocket":
            await self.websockets(scope, receive, send)
        elif scope["type"] == "http":
            file = self.static.find(scope["path"])
            if file is not None:
                await self.static.serve(file, scope, receive, send)
            else:
                await self.pages(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self.live(receive, send)

    async def live(self, receive: Receive, send: Send) -> None:
        """Speak the lifespan protocol."""
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return


application = Portal(
    static=StaticFiles(settings.STATIC_ROOT, settings.STATIC_URL),
    websockets=AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter([]))),
    pages=django_application,
)
