from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.engines.models import WORDS
from tests.instances.shim.harness import wait_until

pytestmark = [pytest.mark.engine, pytest.mark.any_database]

Serve = Callable[..., httpx.Client]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts a server on a free port and waits until it is healthy."""
    processes: list[subprocess.Popen[bytes]] = []
    clients: list[httpx.Client] = []
    log_path = tmp_path / "engine.log"

    def start(*argv: str | Path, **environment: str) -> httpx.Client:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        with log_path.open("wb") as log:
            command = [*argv, "--host", "127.0.0.1", "--port", str(port)]
            process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **environment}, start_new_session=True
            )
        processes.append(process)
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
        clients.append(client)

        def is_healthy() -> bool:
            assert process.poll() is None, log_path.read_text()[-4000:]
            try:
                return client.get("/health").status_code == 200
            except httpx.TransportError:
                return False

        wait_until(is_healthy, "the engine's health", 60)
        return client

    yield start
    for client in clients:
        client.close()
    for process in processes:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


def ask(client: httpx.Client, model: str, **fields: object) -> httpx.Response:
    question = {"role": "user", "content": "What do cattle do near old fences?"}
    body = {"model": model, "messages": [question], "max_tokens": 8, "temperature": 0, **fields}
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer


def read_events(answer: httpx.Response) -> list[dict[str, object]]:
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    assert events.pop() == "[DONE]"
    return [json.loads(event) for event in events]


def join_content(events: list[dict[str, object]]) -> str:
    choices = [choice for event in events for choice in event["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def test_llama_server_answers_whole_and_streamed(serve: Serve, llama_server: Path, tiny_gguf: Path) -> None:
    client = serve(llama_server, "--model", tiny_gguf, "--ctx-size", "2048", LLAMA_API_KEY="secret")
    assert client.post("/v1/chat/completions", json={}).status_code == 401
    client.headers["Authorization"] = "Bearer secret"
    whole = ask(client, "tiny").json()
    text = whole["choices"][0]["message"]["content"]
    assert len(text.split()) == 8
    assert set(text.split()) <= set(WORDS)
    assert whole["usage"]["completion_tokens"] == whole["timings"]["predicted_n"] == 8
    events = read_events(ask(client, "tiny", stream=True, stream_options={"include_usage": True}))
    assert join_content(events) == text
    assert events[-1]["usage"]["completion_tokens"] == 8


def test_mlx_server_answers_whole_and_streamed(serve: Serve, mlx_server: Path, tiny_hf: Path) -> None:
    client = serve(mlx_server, "--model", tiny_hf, HF_HUB_OFFLINE="1")
    whole = ask(client, str(tiny_hf)).json()
    text = whole["choices"][0]["message"]["content"]
    assert len(text.split()) == 8
    assert set(text.split()) <= set(WORDS)
    assert whole["usage"]["completion_tokens"] == 8
    events = read_events(ask(client, str(tiny_hf), stream=True, stream_options={"include_usage": True}))
    assert join_content(events) == text
    assert events[-1]["usage"]["completion_tokens"] == 8
