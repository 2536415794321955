"""A whole Corral for tests: ``corral up`` in a folder of its own, on a free port, driven over HTTP as a user would."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

ROOT = Path(__file__).resolve().parent.parent.parent
FAKE_ENGINE = ROOT / "tests" / "fakes" / "engine.py"
T = TypeVar("T")
LIMIT_S = 60.0
ADMIN, PASSWORD = "admin", "a long enough password"


def free_port() -> int:
    """Return a port that nobody holds now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def port_block(size: int) -> str:
    """Return a range of ports for engines that no other stack of this machine is likely to use."""
    first = 10000 + secrets.randbelow(200) * 100  # below the ports that clients are given
    return f"{first}-{first + size - 1}"


def poll(question: Callable[[], T], *, what: str) -> T:
    """Ask until the answer is true and return it; fail with ``what`` when that takes longer than any machine needs."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        answer = question()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {LIMIT_S:g} s: {what}"
        time.sleep(0.02)


class Stack:
    """One running Corral. ``api`` has the management key, ``openai`` an inference key made at the first start."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.data_dir = folder / "data"
        self.output = folder / "output.log"
        self.port = free_port()
        self.management_key = "corral-mgmt-" + secrets.token_hex(32)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CORRAL_")},
            "PYTHONPATH": str(ROOT),
            "CORRAL_DATA_DIR": str(self.data_dir),
            "CORRAL_PORT": str(self.port),
            "CORRAL_PORT_RANGE": port_block(100),
            "CORRAL_ADMIN_USER": ADMIN,
            "CORRAL_ADMIN_PASSWORD": PASSWORD,
            "CORRAL_MANAGEMENT_KEY": self.management_key,
            "CORRAL_BACKENDS_LLAMA_CPP_COMMAND": sys.executable,
            "CORRAL_BACKENDS_LLAMA_CPP_ARGS": f"-I -S {FAKE_ENGINE}",
            "CORRAL_STOP_TIMEOUT": "3",
            "CORRAL_DRAIN_TIMEOUT": "5",
            "CORRAL_START_ON_CREATE": "false",
            **{f"CORRAL_{name.upper()}": value for name, value in settings.items()},
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.told = 0
        self.api = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"Authorization": f"Bearer {self.management_key}"},
            timeout=90,
        )

    # The installation

    def prepare(self) -> None:
        """Make the database and the static files, but no people."""
        personal = ("CORRAL_ADMIN_USER", "CORRAL_ADMIN_PASSWORD", "CORRAL_MANAGEMENT_KEY")
        environment = {name: value for name, value in self.environment.items() if name not in personal}
        subprocess.run(
            [sys.executable, "-m", "portal.cli", "prepare"], cwd=ROOT, env=environment, check=True, timeout=120
        )

    def up(self) -> None:
        """Run ``corral up`` and wait until it answers and its node is alive."""
        with self.output.open("ab") as output:
            self.told = self.output.stat().st_size
            self.process = subprocess.Popen(
                [sys.executable, "-m", "portal.cli", "up"],
                cwd=ROOT,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        poll(self.answers, what=f"corral up answers; it said:\n{self.said()}")

    def answers(self) -> bool:
        """Whether the API answers and a worker has registered the node."""
        assert self.process is not None
        assert self.process.poll() is None, f"corral up ended:\n{self.said()}"
        try:
            answer = self.api.get("/readyz")
        except httpx.TransportError:
            return False
        return answer.status_code == 200 and "supervising node" in self.said()[self.told :]

    def down(self, number: signal.Signals = signal.SIGINT) -> None:
        """End ``corral up`` by a signal: SIGINT as Ctrl-C stops models too, SIGTERM leaves them."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(60)

    def said(self) -> str:
        """Return what ``corral up`` printed."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def part(self, name: str) -> psutil.Process:
        """Return the process of one part: web, worker, beat or valkey."""
        assert self.process is not None

        def find() -> psutil.Process | None:
            for process in psutil.Process(self.process.pid).children(recursive=True):
                with suppress(psutil.Error):  # it may end while it is looked at
                    words = process.cmdline()
                    if name in words or (name == "valkey" and words and "valkey-server" in words[0]):
                        return process
            return None

        return poll(find, what=f"a process {name}")

    # Instances

    def create(self, name: str, *, start: bool = False, **options: Any) -> dict[str, Any]:
        """Make an instance of the fake engine; ``flags`` are its flags (``say="x"`` or ``ignore_term=True``)."""
        flags: Mapping[str, Any] = options.pop("flags", {})
        backend = {"model": "fake.gguf", **options.pop("backend_options", {})}
        if flags:
            backend["extra_args"] = {key: "" if value is True else str(value) for key, value in flags.items()}
        body = {
            "backend_type": "llama_cpp",
            "backend_options": backend,
            "idle_timeout": 0,
            "restart_delay": 1,
            **options,
        }
        answer = self.api.post(f"/api/v1/instances/{name}", params={"start": str(start).lower()}, json=body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def get(self, name: str) -> dict[str, Any]:
        """Return the instance object."""
        answer = self.api.get(f"/api/v1/instances/{name}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def act(self, name: str, action: str) -> httpx.Response:
        """POST start, stop or restart."""
        return self.api.post(f"/api/v1/instances/{name}/{action}")

    def wait_for(self, name: str, *states: str) -> dict[str, Any]:
        """Wait until the instance is in one of the states and return it."""
        seen: dict[str, Any] = {}

        def look() -> bool:
            seen.update(self.get(name))
            return seen["state"] in states

        poll(look, what=f"{name} is {' or '.join(states)}; it is {seen}; output:\n{self.said()[-3000:]}")
        return seen

    def run_now(self, name: str, **options: Any) -> dict[str, Any]:
        """Make an instance, start it and wait until it is ready."""
        self.create(name, start=True, **options)
        return self.wait_for(name, "ready")

    def remove(self, name: str) -> None:
        """Stop and delete an instance."""
        answer = self.api.delete(f"/api/v1/instances/{name}")
        assert answer.status_code in (204, 404), answer.text

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the instance's events, oldest first."""
        answer = self.api.get(f"/api/v1/instances/{name}/events")
        assert answer.status_code == 200, answer.text
        content = answer.json()
        return list(reversed(content if isinstance(content, list) else content["events"]))

    def states(self, name: str) -> list[str]:
        """Return the states the instance went through, oldest first."""
        return [event["to_state"] for event in self.events(name) if event["kind"] == "transition"]

    def story(self, *names: str) -> list[tuple[str, str]]:
        """Return who went into which state, in the order it happened over all these instances."""
        told = [(event["id"], name, event) for name in names for event in self.events(name)]
        ordered = sorted(told, key=lambda entry: entry[0])
        return [(name, event["to_state"]) for _, name, event in ordered if event["kind"] == "transition"]

    def chat(self, name: str, **body: Any) -> httpx.Response:
        """Ask for a completion through ``/v1``."""
        message = {"model": name, "messages": [{"role": "user", "content": "hello"}], **body}
        return self.api.post("/v1/chat/completions", json=message)

    @contextmanager
    def stream(self, name: str, **body: Any) -> Iterator[Iterator[str]]:
        """Stream a completion; yields the lines."""
        message = {"model": name, "messages": [{"role": "user", "content": "hello"}], "stream": True, **body}
        with self.api.stream("POST", "/v1/chat/completions", json=message) as answer:
            assert answer.status_code == 200, answer.read()
            yield answer.iter_lines()


def texts(lines: Iterator[str]) -> list[str]:
    """Return the pieces of text of a streamed completion; the last element is ``[DONE]`` when it ended properly."""
    pieces = []
    for line in lines:
        if line == "data: [DONE]":
            pieces.append("[DONE]")
        elif line.startswith("data: "):
            deltas = [choice["delta"] for choice in json.loads(line[6:]).get("choices", [])]
            pieces += [delta["content"] for delta in deltas if delta.get("content")]
    return pieces
