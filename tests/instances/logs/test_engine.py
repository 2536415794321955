"""A real engine process under the real shim, its log pumped and followed; and a log on a node of another host."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from django.db import connection
from django.utils import timezone

from instances.logs.access import LogAccess
from instances.logs.database import run_query
from instances.logs.hub import LogHub
from instances.logs.items import Gap, LogChunk, RunEnds
from instances.logs.reader import describe_runs
from instances.logs.records import Cursor, Decoder, join_pieces
from instances.models import Instance, Node, Run
from tests.fakes.fixtures import FAKE_ENGINE
from tests.instances.logs.conftest import StartPump, StartRun, Valkey
from tests.output import wait_for_output

ROOT = Path(__file__).resolve().parent.parent.parent.parent
SHIM = ROOT / "instances" / "shim" / "main.py"


async def test_a_chatty_engine_with_a_huge_line_is_followed_to_its_last_word(
    instance: Instance, start_run: StartRun, pump: StartPump, hub: LogHub, tmp_path: Path
) -> None:
    run, log = await run_query(start_run)
    engine = [*FAKE_ENGINE, "--port", "0", "--huge-line", "10000000", "--lines-per-second", "2000", "--for", "2"]
    spec = {
        "argv": engine,
        "environment": {"PATH": os.environ["PATH"]},
        "token": run.token,
        "state_path": str(tmp_path / "state.json"),
        "log_path": str(log.path),
        "log_max_bytes": 1_000_000,
    }
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    copying = pump(run, log)
    runs = await run_query(describe_runs, [run.pk])
    follower = hub.follow(LogAccess(instance.pk, log.path.parent, runs, Cursor(run.pk, 0)))
    items = []

    async def follow() -> None:
        while item := await follower.next():
            items.append(item)
            if isinstance(item, RunEnds):
                return

    following = asyncio.create_task(follow())
    shim = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", "-E", str(SHIM), str(tmp_path / "spec.json")
    )
    size = -1
    while size < 10_000_000 or size != measure(log.path.parent):
        size = measure(log.path.parent)
        await asyncio.sleep(1)
    shim.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(shim.wait(), 60) == 0
    await run_query(Run.objects.filter(pk=run.pk).update, exited_at=timezone.now())
    assert await copying.finish()
    await asyncio.wait_for(following, 60)
    follower.close()
    assert not any(isinstance(item, Gap) for item in items)
    data = b"".join(item.data for item in items if isinstance(item, LogChunk))
    lines = [line.text for line in join_pieces(Decoder().decode(data)) if line.stream == "stdout"]
    assert 10_000_000 in map(len, lines)
    numbers = [int(line.split()[1].rstrip(".")) for line in lines if line.startswith("line ")]
    assert len(numbers) > 1000
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def measure(folder: Path) -> int:
    """Return how many bytes of log there are."""
    return sum(file.stat().st_size for file in folder.iterdir()) if folder.exists() else 0


def database_url() -> str:
    """Return the URL of the test database for another process."""
    database = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{database['NAME']}"
    user, password, host = (quote(str(database[part]), safe="") for part in ("USER", "PASSWORD", "HOST"))
    return f"postgres://{user}:{password}@{host}:{database['PORT'] or 5432}/{database['NAME']}"


@pytest.fixture
def far_environment(valkey: Valkey, instance: Instance, tmp_path: Path) -> dict[str, str]:
    """The environment of a process on another host than the web process, with the same database and Redis."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CORRAL_")}
    return {
        **kept,
        "DJANGO_SETTINGS_MODULE": "portal.settings",
        "CORRAL_DATABASE_URL": database_url(),
        "CORRAL_REDIS_URL": valkey.url,
        "CORRAL_SECRET_KEY": "the same on all hosts",
        "CORRAL_DATA_DIR": str(tmp_path),
        "CORRAL_NODE": "main",
    }


@pytest.fixture
def far_worker(far_environment: dict[str, str]) -> Iterator[None]:
    """The worker of the node that has the logs."""
    command = [sys.executable, "-m", "celery", "-A", "portal", "worker", "--loglevel", "INFO", "--queues", "node.main"]
    worker = subprocess.Popen(command, cwd=ROOT, env=far_environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    wait_for_output(worker, b"ready.")
    yield
    worker.send_signal(signal.SIGKILL)
    worker.wait()


def test_the_log_of_an_instance_on_another_node_is_read_by_its_worker(
    start_run: StartRun, far_environment: dict[str, str], far_worker: None, tmp_path: Path
) -> None:
    start_run()[1].write_lines(0, 100)
    Node.objects.filter(name="main").update(last_seen_at=timezone.now() + timedelta(minutes=5))  # however slow it gets
    question = (
        "import django; django.setup()\n"
        "from instances.models import Instance; from instances.logs.reader import read_last_lines\n"
        "print(read_last_lines(Instance.objects.get(name='llama'), 2, 'stdout'))"
    )
    (tmp_path / "near").mkdir()
    environment = {**far_environment, "CORRAL_NODE": "near", "CORRAL_DATA_DIR": str(tmp_path / "near")}
    command = [sys.executable, "-c", question]
    answer = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=100, check=False)
    assert answer.stdout.decode() == "line 98\nline 99\n", answer.stderr.decode()
