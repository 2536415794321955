"""Who is measured: a Corral as users run it, the Go proxy, whatever else listens at a given address."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.gateway.rig import Rig
from tests.system.stack import ROOT, Stack

MODEL = "rig"


@dataclass(frozen=True)
class Contestant:
    """Something that forwards to the upstream. ``processes`` are those whose time and memory count."""

    name: str
    address: str
    keys: Path | None = None
    processes: tuple[psutil.Process, ...] = ()

    def aim(self) -> list[str]:
        """The arguments that point a load at it."""
        words = ["-url", f"{self.address}/v1", "-model", MODEL]
        return words if self.keys is None else [*words, "-keys", str(self.keys)]

    def processor_seconds(self) -> float:
        """Processor time used so far, of the user and of the system."""
        return sum(sum(process.cpu_times()[:2]) for process in self.processes)

    def resident_mib(self) -> float:
        """Resident memory in MiB."""
        return float(sum(process.memory_info().rss for process in self.processes)) / 2**20


@dataclass(frozen=True)
class Corral:
    """A Corral that runs the upstream as one of its instances, and a contestant for one key of it."""

    stack: Stack
    upstream: str
    contestant: Contestant


@contextmanager
def run_corral(
    folder: Path,
    rig: Rig,
    *,
    name: str = "Corral",
    workers: int = 1,
    keys: int = 1,
    instances: int = 1,
    upstream_port: int | None = None,
) -> Iterator[Corral]:
    """Run ``corral up`` with its own settings; the upstream is an instance of the kind ``command``.

    ``keys`` and ``instances`` say how many there are in the database. The upstream's port is Corral's choice unless
    one is given.
    """
    folder.mkdir()
    stack = Stack(folder, web_workers=str(workers))
    stack.up()
    try:
        options: dict[str, object] = {"command": [str(rig.program), "upstream", "-address", "127.0.0.1:${PORT}"]}
        if upstream_port is not None:
            options["port"] = upstream_port
        body = {"backend_type": "command", "backend_options": options, "idle_timeout": 0}
        answer = stack.api.post(f"/api/v1/instances/{MODEL}", params={"start": "true"}, json=body)
        assert answer.status_code == 201, answer.text
        port = stack.wait_for(MODEL, "ready")["port"]
        key_file = folder / "keys"
        words = ["--instance", MODEL, "--keys", str(keys), "--instances", str(instances - 1), "--file", str(key_file)]
        argv = [sys.executable, "-m", "benchmarks.gateway.rows", *words]
        subprocess.run(argv, cwd=ROOT, env=stack.environment, check=True)
        all_keys = key_file.read_text().split()
        one_key = folder / "one-key"
        one_key.write_text(all_keys[0])
        web = stack.part("web")
        processes = tuple(find_workers(web)) if workers > 1 else (web,)
        address = f"http://127.0.0.1:{stack.port}"
        yield Corral(stack, f"http://127.0.0.1:{port}", Contestant(name, address, one_key, processes))
    finally:
        stack.down()
        stack.api.close()


def find_workers(web: psutil.Process) -> list[psutil.Process]:
    """The processes that serve, where the web server has several: not the resource tracker of multiprocessing."""
    return [process for process in web.children() if not any("resource_tracker" in word for word in process.cmdline())]


@contextmanager
def run_go_proxy(rig: Rig, upstream: str, name: str = "Go proxy", *flags: str) -> Iterator[Contestant]:
    """Run the yardstick in front of the upstream."""
    with rig.proxy(upstream, *flags) as (address, pid):
        yield Contestant(name, address, processes=(psutil.Process(pid),))
