"""``corral web``: the web server, uvicorn with one or several processes on one listening socket."""

from __future__ import annotations

import argparse
import importlib
import socket
from collections.abc import Sequence

import uvicorn

from portal.cli import load_django_settings
from portal.env import load_settings
from portal.http_protocol import BoundedHttpProtocol
from portal.lifeline import wait_for_start
from portal.up.listener import open_listener

#: Seconds requests in flight may take to finish when the server stops.
GRACE_S = 15
#: Bytes of one incoming WebSocket message. Browsers send cursors; engines' realtime audio comes in small pieces.
WEBSOCKET_MESSAGE_LIMIT = 4 * 2**20
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
    if settings.web_workers == 1:
        importlib.import_module("portal.asgi")
    if options.attached and not wait_for_start():
        return 0
    server = Server(config)
    if settings.web_workers == 1:
        server.run(sockets=[listener])
        return 0 if server.started else 1
    from uvicorn.supervisors import Multiprocess  # noqa: PLC0415  only for several processes

    Multiprocess(config, sockets=[listener]).run()
    return 0


class Server(uvicorn.Server):
    """A server in whose stop log followers end at once: they would never end by themselves."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, end the streams, let other requests finish."""
        from portal.asgi import application  # noqa: PLC0415  loads Django, which is done before a server runs

        for server in self.servers:
            server.close()
        application.end_streams()
        await super().shutdown(sockets)


def make_config(workers: int, application: str = APPLICATION) -> uvicorn.Config:
    """Return uvicorn's configuration.

    The WebSocket protocol is ``websockets-sansio`` because its ``send`` waits while the client does not read; access
    logs are off because a query may carry an API key; forwarded headers are ignored because anybody could send them.
    """
    return uvicorn.Config(
        application,
        loop="uvloop",
        http=BoundedHttpProtocol,
        ws="websockets-sansio",
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
