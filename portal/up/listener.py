"""The listening socket of the web server."""

from __future__ import annotations

import errno
import os
import socket

from portal.up.errors import StartError

BACKLOG = 2048


def open_listener(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket; raise StartError naming the setting when the address can't be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError):
        raise StartError(f"CORRAL_HOST is {host!r}, which is not an address or a known host name.") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise StartError(describe_failure(error, host, port)) from error
    return listener


def describe_failure(error: OSError, host: str, port: int) -> str:
    """Return the sentence for a failed bind."""
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is in use by another program. Set CORRAL_PORT to a free one, or stop that program."
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        return f"This user may not listen on port {port}. Set CORRAL_PORT to a port above 1023."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"CORRAL_HOST is {host}, which is not an address of this machine."
    return f"Corral can't listen on {host}:{port}: {os.strerror(error.errno or 0)}. Check CORRAL_HOST and CORRAL_PORT."
