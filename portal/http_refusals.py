"""What the server itself answers to a request that it doesn't hand to the application. The connection ends with it."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import STATUS_LINE


def build_refusal(status: int, sentence: bytes) -> bytes:
    """Build an answer that says why the server, not the application, ends the connection."""
    head = b"%bcontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
    return head % (STATUS_LINE[status], len(sentence)) + sentence


INVALID = build_refusal(400, b"Invalid HTTP request received.")
NO_TUNNEL = build_refusal(400, b"CONNECT is for proxies, which this server is not.")
TOO_LARGE = build_refusal(431, b"The request's headers are larger than 64 K.")
TOO_SLOW = build_refusal(408, b"The request's body did not come in time.")
TOO_MANY = build_refusal(429, b"Too many requests wait on this connection; read the answers first.")
TOO_LARGE_HANDSHAKE = build_refusal(431, b"The headers of the WebSocket's handshake are too many or too long.")
