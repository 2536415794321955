from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from websockets.sync.client import connect

from tests.fakes.fixtures import FAKE_ENGINE
from tests.instances.shim.harness import is_alive, wait_until

pytestmark = pytest.mark.any_database


class Engine:
    """A started fake engine whose output is read line by line."""

    def __init__(self, flags: tuple[str, ...], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [*FAKE_ENGINE, "--port", "0", *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **environment},
        )

    def read_line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def read_rest(self) -> str:
        return self.process.communicate(timeout=60)[0]

    def open_client(self) -> httpx.Client:
        while not (line := self.read_line()).startswith("listening on "):
            assert line
        return httpx.Client(base_url=f"http://{line.split()[-1]}", timeout=60)


Start = Callable[..., Engine]


@pytest.fixture
def start() -> Iterator[Start]:
    engines: list[Engine] = []

    def start_engine(*flags: str, **environment: str) -> Engine:
        engines.append(Engine(flags, environment))
        return engines[-1]

    yield start_engine
    for engine in engines:
        engine.process.kill()
        engine.process.wait()
        assert engine.process.stdout is not None
        engine.process.stdout.close()


def test_it_answers_a_chat_completion_whole_and_streamed(start: Start) -> None:
    with start("--no-such-flag", "7", "serve", "--every", "0.001").open_client() as client:
        assert client.get("/health").json() == {"status": "ok"}
        assert client.get("/v1/models").json()["data"][0]["id"] == "fake"
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
        whole = client.post("/v1/chat/completions", json=body).json()
        assert whole["choices"][0]["message"]["content"] == "tok0 tok1 tok2 "
        assert whole["usage"]["completion_tokens"] == whole["timings"]["predicted_n"] == 3
        stream = client.post(
            "/v1/chat/completions", json={**body, "stream": True, "stream_options": {"include_usage": True}}
        )
        events = [line.removeprefix("data: ") for line in stream.text.split("\n\n") if line]
        assert events[-1] == "[DONE]"
        chunks = [json.loads(event) for event in events[:-1]]
        assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks[:-1]) == "tok0 tok1 tok2 "
        assert chunks[-1]["usage"]["completion_tokens"] == 3
        assert chunks[-2]["choices"][0]["finish_reason"] == "length"


def test_the_key_is_asked_for_where_a_real_engine_does(start: Start) -> None:
    with start(LLAMA_API_KEY="secret").open_client() as client:
        assert client.get("/health").status_code == 200
        assert client.post("/echo", content="x").status_code == 401
        answer = client.post("/echo?a=1", content="x", headers={"Authorization": "Bearer secret", "X-One": "1"}).json()
        assert (answer["method"], answer["path"], answer["body"]) == ("POST", "/echo?a=1", "x")
        assert ["X-One", "1"] in answer["headers"]


def test_it_says_its_version_and_starts_nothing(start: Start) -> None:
    engine = start("--version")
    assert engine.read_rest() == "version: 1 (fake)\n"
    assert engine.process.returncode == 0


def test_it_is_ready_later_or_never(start: Start) -> None:
    with start("--ready-after", "0.3").open_client() as client:
        assert client.get("/health").status_code == 503
        wait_until(lambda: client.get("/health").status_code == 200, "readiness")
    with start("--never-ready").open_client() as client:
        assert client.post("/v1/completions", json={}).status_code == 503


def test_it_crashes_as_told(start: Start, tmp_path: Path) -> None:
    crash = start("--crash-at-start", "--exit-code", "5")
    assert "failed to load model" in crash.read_rest()
    assert crash.process.returncode == 5
    late = start("--crash-after", "0.1", "--exit-code", "-11")
    assert late.process.wait(10) == -11
    flags = ("--crash-times", "2", "--crash-count-file", str(tmp_path / "count"))
    assert start(*flags).process.wait(10) == 1
    assert start(*flags).process.wait(10) == 1
    with start(*flags).open_client() as client:
        assert client.get("/health").status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            client.post("/crash?code=9")


def test_a_taken_port_ends_it(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        engine = start("--port", str(taken.getsockname()[1]))
        assert "couldn't bind" in engine.read_rest()
        assert engine.process.returncode == 1


def test_it_leaves_children_that_ignore_term(start: Start) -> None:
    engine = start("--fork-children", "--ignore-term")
    lines = [engine.read_line().split() for _ in range(3)]
    assert [name for name, _ in lines] == ["child", "session", "orphan"]
    pids = [int(pid) for _, pid in lines]
    try:
        with engine.open_client() as client:
            for pid in [engine.process.pid, *pids]:
                psutil.Process(pid).send_signal(signal.SIGTERM)
            assert engine.read_line() == "SIGTERM is ignored"
            assert client.get("/health").status_code == 200
        assert all(map(is_alive, pids))
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


def test_term_ends_it_now_or_later(start: Start) -> None:
    quick, slow = start(), start("--term-delay", "0.4")
    for engine in (quick, slow):
        engine.open_client().close()
        engine.process.terminate()
    assert quick.process.wait(10) == 0
    began = time.monotonic()
    assert slow.process.wait(10) == 0
    assert time.monotonic() - began > 0.1


def test_it_chats_at_the_rate_asked_for(start: Start) -> None:
    engine = start("--huge-line", "50000", "--lines-per-second", "1000", "--for", "0.5", "--line-length", "80")
    assert engine.read_line() == "x" * 50000
    with engine.open_client():
        lines = [engine.read_line() for _ in range(400)]
    numbers = [int(line.split()[1].rstrip(".")) for line in lines]
    assert numbers == list(range(numbers[0], numbers[0] + 400))
    assert {len(line) for line in lines} == {80}


def test_it_notices_a_client_that_leaves(start: Start) -> None:
    with start("--stream-tokens", "10000", "--every", "0.005").open_client() as client:
        with client.stream("POST", "/v1/completions", json={"prompt": "x", "stream": True}) as answer:
            next(answer.iter_lines())
            assert client.get("/stats").json() == {"requests": 1, "active": 1, "left": 0}
        wait_until(lambda: client.get("/stats").json() == {"requests": 1, "active": 0, "left": 1}, "the end")


def test_the_other_paths_answer(start: Start) -> None:
    with start().open_client() as client:
        upload = client.put("/upload", content=(b"x" * 100_000 for _ in range(10))).json()
        assert upload["bytes"] == 1_000_000
        assert len(client.get("/download?bytes=200000").content) == 200_000
        assert client.get("/status/418?body=tea").text == "tea"
        assert client.post("/sleep?seconds=0.01").status_code == 200
        assert client.post("/v1/embeddings", json={"input": "x"}).json()["data"][0]["embedding"] == [0.25, -0.5, 1.0]
        assert client.post("/v1/completions", content=b"[]").status_code == 400
        assert client.post("/nowhere").status_code == 404
        with pytest.raises(httpx.RemoteProtocolError):
            client.get("/cut")
        with connect(f"ws://{client.base_url.host}:{client.base_url.port}/ws") as websocket:
            for message in ("hello", b"\x00" * 300, "x" * 70_000):
                websocket.send(message)
                assert websocket.recv(10) == message
