"""What a node tells about itself: real processes, a real Valkey, and GPUs as NVML's binding would show them."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import redis.asyncio

from instances.models import Instance
from instances.supervisor.actor import InstanceActor
from instances.supervisor.database import DatabaseRunner
from instances.supervisor.gpus import GpuReader
from instances.supervisor.identity import identify
from instances.supervisor.process_tree import RunningTree, list_tree, read_tree
from instances.supervisor.sampling import NodeSampler, Sampling
from tests.fakes.fixtures import FAKE_ENGINE
from tests.gateway.harness import Valkey, run_valkey
from tests.instances.shim.harness import ShimRun, wait_until

BURN = "import time\nend = time.process_time() + 0.4\nwhile time.process_time() < end: pass\n"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[ShimRun]:
    shim_run = ShimRun(tmp_path, uuid.uuid4().hex)
    yield shim_run
    shim_run.kill_everything()


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    with run_valkey() as server:
        yield server


def root_of(run: ShimRun) -> RunningTree:
    """The run's shim as the supervisor knows it."""
    identity = identify(run.pid)
    assert identity is not None
    return RunningTree(7, identity.pid, identity.started)


def use_of(tree: RunningTree) -> dict[str, Any]:
    use = read_tree(tree)
    assert use is not None
    return use


def test_a_tree_holds_the_engine_and_all_that_it_started(run: ShimRun) -> None:
    run.start([*FAKE_ENGINE, "--port", "0", "--fork-children"])
    tree = root_of(run)
    # The shim, the engine, its child, its child with a session of its own, the orphan of its double fork.
    run.wait_for_line(rb"orphan (\d+)\n")
    use = use_of(tree)
    assert (use["processes"], use["threads"] >= 5) == (5, True)
    resident = sum(psutil.Process(pid).memory_info().rss for pid in list_tree(tree.pid))
    assert use["resident_bytes"] == pytest.approx(resident, rel=0.1)


def test_every_way_of_finding_a_tree_finds_the_same(run: ShimRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run.start([*FAKE_ENGINE, "--port", "0", "--fork-children"])
    tree = root_of(run)
    run.wait_for_line(rb"orphan (\d+)\n")
    by_threads = list_tree(tree.pid)
    monkeypatch.setattr("instances.supervisor.process_tree.CHILDREN", Path("/nonexistent"))
    assert list_tree(tree.pid) == by_threads


def test_cpu_time_counts_processes_that_have_ended_and_never_falls(run: ShimRun) -> None:
    code = f"import subprocess, sys, signal\nsubprocess.run([sys.executable, '-c', {BURN!r}])\nsignal.pause()\n"
    run.start([sys.executable, "-c", code])
    tree = root_of(run)
    seen = [0.0]

    def has_burned() -> bool:
        seen.append(use_of(tree)["cpu_seconds"])
        return seen[-1] >= 0.4 and len(list_tree(tree.pid)) == 2

    wait_until(has_burned, "the child has worked and ended")
    assert seen == sorted(seen)


def test_a_stranger_with_the_pid_of_a_dead_shim_is_not_sampled(run: ShimRun) -> None:
    run.start([sys.executable, "-c", "import signal; signal.pause()"])
    tree = root_of(run)
    assert read_tree(tree) is not None
    assert read_tree(RunningTree(tree.instance_id, tree.pid, tree.started - 1)) is None
    run.kill_everything()
    wait_until(lambda: not psutil.pid_exists(tree.pid), "the shim is gone")
    assert read_tree(tree) is None


def test_a_sample_describes_this_host() -> None:
    sampler = NodeSampler(GpuReader(lambda: FakeNvml(library=False)))
    time.sleep(0.1)  # the use of the processors is that since the sampler was made
    sample = json.loads(json.dumps(sampler.take_sample("north", [])))
    assert sample["node"] == "north"
    assert sample["sampled_at"] == pytest.approx(time.time(), abs=60)
    assert len(sample["cpu_percent"]) == psutil.cpu_count()
    assert all(0 <= percent <= 100 for percent in sample["cpu_percent"])
    assert sample["memory_total_bytes"] == psutil.virtual_memory().total
    assert 0 < sample["memory_used_bytes"] < sample["memory_total_bytes"]
    assert len(sample["load"]) == 3
    assert "lo" not in sample["network"]
    assert sample["gpus"] == []


class NvmlError(Exception):
    """What NVML's binding raises."""


class NoLibrary(NvmlError):
    """There is no driver."""


@dataclass
class Card:
    name: str | bytes
    uuid: str
    used: int
    processes: dict[int, int | None]
    fan: int | None = None


class FakeNvml:
    """The functions of NVML's binding that are used, with its errors."""

    NVMLError = NvmlError
    NVMLError_LibraryNotFound = NoLibrary
    NVML_TEMPERATURE_GPU = 0
    NVML_FI_DEV_MEMORY_TEMP = 82
    NVML_SUCCESS = 0

    def __init__(self, *cards: Card, library: bool = True) -> None:
        self.cards = cards
        self.library = library
        self.opened = 0
        self.is_lost = False

    def nvmlInit(self) -> None:  # noqa: N802  NVML's name, as are all below
        self.opened += 1
        if not self.library:
            raise NoLibrary("NVML Shared Library Not Found")

    def nvmlShutdown(self) -> None:  # noqa: N802
        pass

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        if self.is_lost:
            raise NvmlError("Driver/library version mismatch")
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:  # noqa: N802
        return self.cards[index]

    def nvmlDeviceGetName(self, card: Card) -> str | bytes:  # noqa: N802
        return card.name

    def nvmlDeviceGetUUID(self, card: Card) -> str:  # noqa: N802
        return card.uuid

    def nvmlDeviceGetMemoryInfo(self, card: Card) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(used=card.used, total=100)

    def nvmlDeviceGetUtilizationRates(self, card: Card) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(gpu=93, memory=41)

    def nvmlDeviceGetTemperature(self, card: Card, sensor: int) -> int:  # noqa: N802
        return 61

    def nvmlDeviceGetFieldValues(self, card: Card, fields: list[int]) -> list[SimpleNamespace]:  # noqa: N802
        return [SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=74))]

    def nvmlDeviceGetPowerUsage(self, card: Card) -> int:  # noqa: N802
        return 215500

    def nvmlDeviceGetFanSpeed(self, card: Card) -> int:  # noqa: N802
        if card.fan is None:
            raise NvmlError("Not Supported")
        return card.fan

    def nvmlDeviceGetComputeRunningProcesses(self, card: Card) -> list[SimpleNamespace]:  # noqa: N802
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in card.processes.items()]


def test_gpus_are_described_and_their_memory_is_told_by_instance(run: ShimRun) -> None:
    run.start([sys.executable, "-c", "import signal; signal.pause()"])
    engine = run.wait_for_state("child_pid")
    nvml = FakeNvml(
        Card("RTX", "GPU-1", 25, {engine: 20, 1: 5}, fan=30), Card(b"Tesla", "GPU-2", 50, {engine: 30, 2: None})
    )
    tree = root_of(run)
    sample = NodeSampler(GpuReader(lambda: nvml)).take_sample("north", [tree])
    assert sample["gpus"][0] == {
        "id": "0",
        "name": "RTX",
        "uuid": "GPU-1",
        "temperature_celsius": 61,
        "vram_temperature_celsius": 74,
        "util_percent": 93,
        "memory_util_percent": 25.0,
        "memory_used_bytes": 25,
        "memory_total_bytes": 100,
        "fan_speed_percent": 30,
        "power_draw_watts": 215.5,
    }
    assert sample["gpus"][1]["name"] == "Tesla"
    assert sample["gpus"][1]["fan_speed_percent"] is None
    assert sample["instances"][7]["gpu_bytes"] == {"0": 20, "1": 30}


def test_a_missing_driver_is_looked_for_once() -> None:
    nvml = FakeNvml(library=False)
    reader = GpuReader(lambda: nvml)
    assert [reader.read_gpus(), reader.read_gpus()] == [[], []]
    assert nvml.opened == 1


def test_this_machine_is_read_with_the_real_binding() -> None:
    assert isinstance(GpuReader().read_gpus(), list)


def test_a_driver_that_is_replaced_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(Card("RTX", "GPU-1", 25, {}))
    reader = GpuReader(lambda: nvml)
    assert len(reader.read_gpus()) == 1
    nvml.is_lost = True
    assert reader.read_gpus() == []
    nvml.is_lost = False
    assert reader.read_gpus() == []  # not at once
    now = time.monotonic()
    monkeypatch.setattr("instances.supervisor.gpus.time.monotonic", lambda: now + 61)
    assert len(reader.read_gpus()) == 1
    assert nvml.opened == 2


async def test_samples_come_into_redis_and_stop_with_the_supervisor(
    run: ShimRun, valkey: Valkey, transactional_db: None
) -> None:
    run.start([sys.executable, "-c", "import signal; signal.pause()"])
    tree = root_of(run)
    wait_until(lambda: len(list_tree(tree.pid)) == 2, "the shim has started the engine")
    database = DatabaseRunner()
    shim = SimpleNamespace(identity=SimpleNamespace(pid=tree.pid, started=tree.started), run_dir=run.folder)
    actor = InstanceActor(Instance(pk=7, name="alpha"), SimpleNamespace())  # type: ignore[arg-type]  # not asked
    actor.shim = shim  # type: ignore[assignment]  # its identity is all that is asked for
    async with redis.asyncio.Redis.from_url(valkey.url) as client:
        sampling = Sampling("north", client, database, {7: actor})
        async with asyncio.timeout(60):
            while (body := await client.get("corral:node-metrics:north")) is None:  # noqa: ASYNC110  it happens in Redis
                await asyncio.sleep(0.02)
        sample = json.loads(body)
        assert sample["instances"]["7"]["processes"] == 2
        assert 20 < await client.ttl("corral:node-metrics:north") <= 30
        await sampling.end()
        await client.delete("corral:node-metrics:north")
    await database.close()


async def test_nothing_is_sampled_when_metrics_are_off(valkey: Valkey, change_settings: Callable[..., None]) -> None:
    change_settings(metrics=False)
    async with redis.asyncio.Redis.from_url(valkey.url) as client:
        sampling = Sampling("north", client, DatabaseRunner(), {})
        await asyncio.sleep(0.5)
        assert await client.keys("*") == []
        await sampling.end()
