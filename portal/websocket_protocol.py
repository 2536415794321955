"""uvicorn's protocol for WebSockets."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Writes no error into the log when a handshake was answered with a refusal: strangers could fill it with them."""

    async def send(self, message: Any) -> None:
        """Send what the application has to say."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True  # uvicorn 0.54 notes that only for refusals without a body
