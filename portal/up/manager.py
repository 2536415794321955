"""The process manager: brings the parts up in order, keeps them running, takes them down in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Coroutine

from portal.env import Settings
from portal.up.child import Child, Program, corral_argv, describe_exit
from portal.up.errors import StartError
from portal.up.listener import open_listener
from portal.up.lock import InstallationLock
from portal.up.output import Output
from portal.up.signals import STOP_SIGNALS, release_stop_signals
from portal.up.valkey import end_orphan, make_socket_folder, make_valkey_program, wait_until_answering

FIRST_RESTART_DELAY_S = 0.5
LONGEST_RESTART_DELAY_S = 30.0
#: Seconds after which a part counts as healthy, so that its next restart is quick again.
HEALTHY_AFTER_S = 60.0
FIRST_ANSWER_TIMEOUT_S = 60.0
#: Seconds the worker may take to end beside the time it spends on stopping models.
WORKER_GRACE_S = 40.0


class Manager:
    """One run of ``corral up`` on one data folder."""

    def __init__(self, settings: Settings, output: Output) -> None:
        self.settings = settings
        self.output = output
        self.run_dir = settings.data_dir / "run"
        self.stop_models_path = self.run_dir / "stop-models"
        self.lock = InstallationLock(self.run_dir)
        self.listener: socket.socket | None = None
        self.children: dict[str, Child] = {}
        self.keepers: list[asyncio.Task[None]] = []
        self.stop_requested = asyncio.Event()
        self.signals_received = 0

    async def run(self) -> int:
        """Start, run until told to stop, stop; return the exit code. Raises StartError with nothing left running."""
        self.handle_signals()
        try:
            starting = asyncio.create_task(self.start())
            stopping = asyncio.create_task(self.stop_requested.wait())
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await starting
            else:
                starting.result()
            await stopping
            return 0
        finally:
            await self.stop()

    def handle_signals(self) -> None:
        """SIGINT stops everything, models too; SIGTERM and SIGHUP leave the models; a second signal kills."""
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self.on_signal, number)
        release_stop_signals()

    def on_signal(self, number: signal.Signals) -> None:
        """Ask for the stop; on the second SIGINT end every part at once."""
        self.signals_received += 1
        if self.signals_received == 1:
            if number == signal.SIGINT and self.lock.is_held:
                self.stop_models_path.touch()
            with_models = self.lock.is_held and self.stop_models_path.exists()
            self.output.say("Stopping everything." if with_models else "Stopping; the models keep running.")
            self.stop_requested.set()
        elif number == signal.SIGINT:
            self.output.say("Killing what still runs. The next `corral up` takes over models that are left.")
            for child in self.children.values():
                child.kill()

    async def start(self) -> None:
        """Bring everything up until the first page answers."""
        began = time.monotonic()
        self.make_data_folder()
        self.lock.acquire()
        self.stop_models_path.unlink(missing_ok=True)
        self.listener = listener = open_listener(self.settings.host, self.settings.port)
        web = await self.add(self.web_program(listener.fileno()))
        preparing = await self.add(PREPARE)
        if not self.settings.redis_url:
            await self.start_valkey()
        code = await preparing.wait()
        if code != 0:
            raise StartError("" if code > 0 else f"Preparing the database {describe_exit(code)}.")
        del self.children[PREPARE.label]
        web.release()
        for program in (self.worker_program(), BEAT):
            child = await self.add(program)
            child.release()
            self.keep(child)
        await self.wait_for_first_answer(web, listener)
        self.keep(web)
        self.output.say(
            f"Corral answers on {self.address} ({time.monotonic() - began:.1f} s). Ctrl-C stops everything."
        )

    def make_data_folder(self) -> None:
        """Make the data folder and prove that it can be written; raise StartError."""
        try:
            # The folder itself first: `parents` would make it readable to all, and the database lies in it.
            self.settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.run_dir.mkdir(exist_ok=True, mode=0o700)
            probe = self.run_dir / f".probe.{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StartError(
                f"The data folder {self.settings.data_dir} can't be written: {error.strerror}. "
                "Set CORRAL_DATA_DIR to a folder this user may write to."
            ) from error

    async def add(self, program: Program) -> Child:
        """Start a part and remember it for the stop."""
        child = Child(program, self.output)
        self.children[program.label] = child
        await child.spawn()
        return child

    async def start_valkey(self) -> None:
        """Start the embedded server and wait for its answer; raise StartError when it ends instead."""
        path = self.settings.valkey_socket
        make_socket_folder(path)
        if await end_orphan(path):
            self.output.say("Ended a Valkey that an earlier `corral up` had left behind.")
        child = await self.add(make_valkey_program(path, self.run_dir))
        await self.race(child, wait_until_answering(path), "The embedded Valkey")
        self.keep(child)

    async def wait_for_first_answer(self, web: Child, listener: socket.socket) -> None:
        """Wait until the web server answers a request; raise StartError when it ends instead."""
        await self.race(web, self.ask_first_page(listener), "The web server")

    async def race(self, child: Child, goal: Coroutine[None, None, None], name: str) -> None:
        """Wait for ``goal``; raise StartError when the child ends first."""
        reached = asyncio.create_task(goal)
        ended = asyncio.create_task(child.wait())
        try:
            await asyncio.wait({reached, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not reached.done():
                raise StartError(f"{name} {describe_exit(ended.result())} during the start; its lines above say why.")
            reached.result()
        finally:
            for task in (reached, ended):
                task.cancel()

    async def ask_first_page(self, listener: socket.socket) -> None:
        """Send one request. The kernel holds it until the server accepts, so no polling is needed."""
        address = listener.getsockname()
        try:
            async with asyncio.timeout(FIRST_ANSWER_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(reachable(address[0]), address[1])
                writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                await reader.readline()
                writer.close()
        except TimeoutError:
            raise StartError(f"The web server did not answer within {FIRST_ANSWER_TIMEOUT_S:g} s.") from None

    def keep(self, child: Child) -> None:
        """Start the part again whenever it ends, from now until the stop."""
        self.keepers.append(asyncio.create_task(self.restart_for_ever(child)))

    async def restart_for_ever(self, child: Child) -> None:
        """Wait for each end of the part and start it again after a growing delay."""
        delay_s = FIRST_RESTART_DELAY_S
        while True:
            began = time.monotonic()
            code = await child.wait()
            if time.monotonic() - began > HEALTHY_AFTER_S:
                delay_s = FIRST_RESTART_DELAY_S
            self.output.say(f"{child.program.label} {describe_exit(code)}; starting it again in {delay_s:g} s.")
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, LONGEST_RESTART_DELAY_S)
            try:
                await child.spawn()
            except OSError as error:  # no memory or no process to be had: the next round tries again
                self.output.say(f"{child.program.label} can't be started: {error.strerror}.")
                continue
            child.release()

    async def stop(self) -> None:
        """Stop every part in order: no new requests, no new tasks, then the worker (and models), the broker last."""
        for keeper in self.keepers:
            keeper.cancel()
        await asyncio.gather(*self.keepers, return_exceptions=True)
        if self.listener is not None:
            self.listener.close()
        for label in (PREPARE.label, "web", BEAT.label, "worker", "valkey"):
            if label in self.children:
                await self.children[label].stop()
        if self.lock.is_held:
            self.stop_models_path.unlink(missing_ok=True)
            self.lock.release()

    def web_program(self, listener: int) -> Program:
        """Return the web server's program; it gets the listening socket, so a restart refuses no connection."""
        argv = corral_argv("web", "--attached", "--listener", str(listener))
        return Program(label="web", argv=argv, stop_timeout_s=20, pass_fds=(listener,))

    def worker_program(self) -> Program:
        """Return the worker's program; when it stops models it may take their drain and stop times."""
        longest_s = self.settings.drain_timeout + self.settings.stop_timeout + WORKER_GRACE_S
        return Program(label="worker", argv=corral_argv("worker", "--attached"), stop_timeout_s=longest_s)

    @property
    def address(self) -> str:
        """The URL people open."""
        return f"http://{url_host(self.settings.host)}:{self.settings.port}/"


PREPARE = Program(label="prepare", argv=corral_argv("prepare"), stop_timeout_s=10, is_attached=False, is_labelled=False)
BEAT = Program(label="beat", argv=corral_argv("beat", "--attached"), stop_timeout_s=10)


def reachable(host: str) -> str:
    """Return the address to dial for a server that listens on ``host``, which may be a wildcard."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  compared, not bound


def url_host(host: str) -> str:
    """Return the host part of a URL for people: a wildcard becomes localhost, an IPv6 address gets brackets."""
    if host in {"", "0.0.0.0", "::"}:  # noqa: S104  compared, not bound
        return "localhost"
    return f"[{host}]" if ":" in host else host
