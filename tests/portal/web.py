"""The web server's own uvicorn configuration around any application, in a thread."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from portal.web import make_config


@contextmanager
def serve(application: Any, **changes: Any) -> Iterator[int]:
    """Serve the application as ``corral web`` would, but for changes to the configuration, and yield the port."""
    config = make_config(1, application)
    config.timeout_graceful_shutdown = 1
    for name, value in changes.items():
        setattr(config, name, value)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
                runner.run(server.serve([listener]))

        thread = threading.Thread(target=run)
        port = listener.getsockname()[1]
        thread.start()
        try:
            yield port
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()
