"""The few lines of RFC 6455 that an echo needs: handshake, text, binary, ping and close; no fragments."""

from __future__ import annotations

import base64
import hashlib
from http.server import BaseHTTPRequestHandler

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def echo_messages(handler: BaseHTTPRequestHandler) -> None:
    """Upgrade the connection and send every message back until the client closes."""
    key = handler.headers.get("Sec-WebSocket-Key", "")
    handler.send_response(101)
    handler.send_header("Upgrade", "websocket")
    handler.send_header("Connection", "Upgrade")
    digest = hashlib.sha1((key + GUID).encode(), usedforsecurity=False).digest()
    handler.send_header("Sec-WebSocket-Accept", base64.b64encode(digest).decode())
    handler.end_headers()
    handler.close_connection = True
    while head := handler.rfile.read(2):
        opcode, length = head[0] & 0x0F, head[1] & 0x7F
        if length >= 126:
            length = int.from_bytes(handler.rfile.read(2 if length == 126 else 8), "big")
        mask = handler.rfile.read(4)
        data = bytes(byte ^ mask[index % 4] for index, byte in enumerate(handler.rfile.read(length)))
        _send(handler, PONG if opcode == PING else opcode, data)
        if opcode == CLOSE:
            return


def _send(handler: BaseHTTPRequestHandler, opcode: int, data: bytes) -> None:
    size = len(data)
    if size < 126:
        head = bytes([0x80 | opcode, size])
    elif size < 65536:
        head = bytes([0x80 | opcode, 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([0x80 | opcode, 127]) + size.to_bytes(8, "big")
    handler.wfile.write(head + data)
