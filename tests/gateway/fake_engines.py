"""Engines that behave in ways that need more control over the connection than `harness.Upstream` gives."""

from __future__ import annotations

import asyncio
import threading
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any, Self


class EagerCloser:
    """Answers each request and closes a connection that then idles for a moment, from a thread of its own.

    Closing in another thread than the gateway's makes the close meet the next request at every possible moment.
    """

    IDLE_S = 0.0015

    def __init__(self) -> None:
        self.answered = 0
        self.closed = 0
        closer = self

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                self.connection.settimeout(30)
                while closer.answer_one(self):
                    self.connection.settimeout(closer.IDLE_S)

        class Server(ThreadingTCPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A connection that ends is no news."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self._lock = threading.Lock()

    def answer_one(self, handler: StreamRequestHandler) -> bool:
        """Answer the next request on the connection. Returns False when it idled for too long."""
        try:
            first = handler.connection.recv(65536)
        except TimeoutError:
            with self._lock:
                self.closed += 1
            return False
        if not first:
            return False
        handler.connection.settimeout(30)
        head, _, body = first.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        while len(body) < length:
            body += handler.connection.recv(65536)
        with self._lock:
            self.answered += 1
        handler.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine")
        return True

    async def __aenter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._server.shutdown)
        self._thread.join()
        self._server.server_close()
