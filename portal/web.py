"""``corral web``: the web server, uvicorn with one or several processes on one listening socket."""

from __future__ import annotations

import argparse
import gc
import importlib
import socket
from collections.abc import Callable, Sequence
from typing import Any, cast

import uvicorn

from portal.acceptor import Acceptor
from portal.cli import load_django_settings
from portal.env import load_settings
from portal.http_protocol import BoundedHttpProtocol
from portal.lifeline import wait_for_start
from portal.up.listener import open_listener
from portal.websocket_protocol import WebSocketProtocol

#: Seconds requests in flight may take to finish when the server stops.
GRACE_S = 15
#: Bytes of one incoming WebSocket message. Browsers send cursors; engines' realtime audio comes in small pieces.
WEBSOCKET_MESSAGE_LIMIT = 16 * 2**20
#: Objects made and not yet dropped after which the garbage collector looks at the young ones.
YOUNG_OBJECTS = 50_000
APPLICATION = "portal.asgi:application"


def run_web(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT; raise SettingsError when the port is taken or a setting is wrong."""
    parser = argparse.ArgumentParser(prog="corral web", description="Run the web server.")
    parser.add_argument("--attached", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--listener", type=int, metavar="FD", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    settings = load_settings()
    load_django_settings()
    if options.listener is None:
        listener = open_listener(settings.host, settings.port)
    else:
        listener = socket.socket(fileno=options.listener)
    config = make_config(settings.web_workers)
    config.listener = listener
    if settings.web_workers == 1:
        importlib.import_module("portal.asgi")
    if options.attached and not wait_for_start():
        return 0
    if settings.web_workers == 1:
        server = uvicorn.Server(config)
        server.run(sockets=[listener])
        return 0 if server.started else 1
    from uvicorn.supervisors import Multiprocess  # noqa: PLC0415  only for several processes

    Multiprocess(config, sockets=[listener]).run()
    return 0


class Config(uvicorn.Config):
    """A configuration whose load is followed by `settle_memory`, in each process that serves."""

    listener: socket.socket | None = None
    """The socket that is listened on; with it, many connections that wait are accepted at once."""

    def load(self) -> None:
        """Load the application. One that is handed over as an object shares its process with other things."""
        super().load()
        if self.listener is not None:
            self.http_protocol_class = cast("type[BoundedHttpProtocol]", Acceptor(self.listener))
        if isinstance(self.app, str):
            settle_memory()


def settle_memory() -> None:
    """Spare the garbage collector what was loaded, as it stays, and let it look less often at what is new.

    Each request in work keeps some hundred objects for a moment; at Python's default of 700 the collector ran for them
    every few requests and found nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 10, 10)


def make_config(workers: int, application: str | Callable[..., Any] = APPLICATION) -> Config:
    """Return uvicorn's configuration.

    The WebSocket protocol is based on ``websockets-sansio`` because its ``send`` waits while the client does not read;
    access logs are off because a query may carry an API key; forwarded headers are ignored because anybody could send
    them.
    """
    return Config(
        application,
        loop="uvloop",
        http=BoundedHttpProtocol,
        ws=WebSocketProtocol,
        ws_per_message_deflate=False,
        ws_max_size=WEBSOCKET_MESSAGE_LIMIT,
        interface="asgi3",
        workers=workers,
        access_log=False,
        log_config=None,
        log_level="warning",
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE_S,
    )
