"""From which sites' pages a WebSocket may be opened: browsers ask nobody before they open one."""

from __future__ import annotations

from django.conf import settings

from accounts.credentials import read_keys
from gateway.asgi import ASGIApp, Receive, Scope, Send, find_header

FOREIGN = "A page of another site may not open this without an API key of its own."


class OriginGuard:
    """Lets in the portal's own pages, programs, and pages of other sites that bring a key as ``allowed_origins`` says.

    What has no ``Origin`` is no page. A page elsewhere must not listen with the visitor's session, nor at all where no
    key is demanded.
    """

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the connection on, or refuse it before the handshake."""
        if may_open(scope):
            await self._application(scope, receive, send)
        else:
            await receive()
            await send({"type": "websocket.close", "code": 4403, "reason": FOREIGN})


def may_open(scope: Scope) -> bool:
    """Whether a WebSocket may be opened by the page that asks for it."""
    origin = (find_header(scope["headers"], b"origin") or b"").decode("latin-1").lower()
    if not origin:
        return True
    host = (find_header(scope["headers"], b"host") or b"").decode("latin-1").lower()
    if origin.partition("://")[2] == host or origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    allowed = settings.CORRAL.allowed_origins
    has_key = read_keys(scope["headers"], scope["query_string"]).key is not None  # a password is sent by the browser
    return has_key and ("*" in allowed or origin in allowed)
