"""What real engines report, whole and streamed, in every API that they speak."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.accounting.reader import UsageReader
from gateway.accounting.usage import Usage
from tests.instances.shim.harness import wait_until

pytestmark = [pytest.mark.engine, pytest.mark.any_database]
MESSAGES = [{"role": "user", "content": "What do cattle do near old fences, and why do they do it?"}]
Ask = Callable[..., Usage]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Ask]]:
    """Starts an engine; returns a function that asks it something and returns what was used."""
    processes: list[subprocess.Popen[bytes]] = []
    clients: list[httpx.Client] = []
    log_path = tmp_path / "engine.log"

    def start_engine(*argv: str | Path, **defaults: Any) -> Ask:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        with log_path.open("wb") as log:
            command = [*argv, "--host", "127.0.0.1", "--port", str(port)]
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "HF_HUB_OFFLINE": "1"},
                start_new_session=True,
            )
        processes.append(process)
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
        clients.append(client)

        def is_healthy() -> bool:
            assert process.poll() is None, log_path.read_text()[-4000:]
            try:
                return client.get("/health").status_code == 200
            except httpx.TransportError:
                return False

        wait_until(is_healthy, "the engine's health", 60)

        def ask(path: str, **body: Any) -> Usage:
            with client.stream("POST", path, json=defaults | body) as answer:
                headers = [(name.lower(), value) for name, value in answer.headers.raw]
                reader = UsageReader.for_answer(path.encode(), headers, status=answer.status_code)
                assert reader is not None
                text = b""
                for piece in answer.iter_raw():
                    text += piece
                    reader.feed(piece)
            assert answer.status_code == 200, text
            usage = reader.finish()
            assert usage is not None, text
            assert reader.is_stream == bool(body.get("stream"))
            return usage

        return ask

    yield start_engine
    for client in clients:
        client.close()
    for process in processes:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": MESSAGES}),
        ("/v1/completions", {"prompt": MESSAGES[0]["content"]}),
        ("/completion", {"prompt": MESSAGES[0]["content"], "n_predict": 8}),
        ("/v1/messages", {"messages": MESSAGES}),
        ("/v1/responses", {"input": MESSAGES[0]["content"], "max_output_tokens": 8}),
    ],
)
def test_llama_server_tells_the_whole_prompt_whether_or_not_it_was_cached(
    start: Callable[..., Ask], llama_server: Path, tiny_gguf: Path, path: str, body: dict[str, Any]
) -> None:
    ask = start(
        llama_server, "--model", tiny_gguf, "--ctx-size", "2048", "--parallel", "1",
        model="tiny", max_tokens=8, temperature=0, ignore_eos=True, cache_prompt=True,
    )  # fmt: skip
    first, again, streamed = ask(path, **body), ask(path, **body), ask(path, **body, stream=True)

    assert first.prompt_tokens > 8
    assert (first.completion_tokens, first.cached_tokens) == (8, 0)
    for usage in (again, streamed):
        assert (usage.prompt_tokens, usage.completion_tokens) == (first.prompt_tokens, 8)
        assert 0 < usage.cached_tokens < usage.prompt_tokens
    if path in ("/v1/chat/completions", "/completion"):
        for usage in (first, streamed):
            assert usage.tokens_per_second is not None
            assert usage.prompt_per_second is not None


def test_llama_server_tells_the_tokens_of_embeddings(
    start: Callable[..., Ask], llama_server: Path, tiny_gguf: Path
) -> None:
    ask = start(llama_server, "--model", tiny_gguf, "--ctx-size", "2048", "--embedding", "--pooling", "mean")
    text = str(MESSAGES[0]["content"])
    one = ask("/v1/embeddings", input=text)
    two = ask("/v1/embeddings", input=[text, text])
    assert one.prompt_tokens > 8
    assert two.prompt_tokens == 2 * one.prompt_tokens
    assert (one.completion_tokens, one.cached_tokens) == (0, 0)


def test_mlx_server_tells_whole_and_streamed(start: Callable[..., Ask], mlx_server: Path, tiny_hf: Path) -> None:
    ask = start(mlx_server, "--model", tiny_hf, model=str(tiny_hf), max_tokens=8, temperature=0)
    for path, body in (
        ("/v1/chat/completions", {"messages": MESSAGES}),
        ("/v1/completions", {"prompt": MESSAGES[0]["content"]}),
    ):
        whole = ask(path, **body)
        streamed = ask(path, **body, stream=True, stream_options={"include_usage": True})
        assert whole.prompt_tokens > 8
        assert 0 < whole.completion_tokens <= 8
        assert (streamed.prompt_tokens, streamed.completion_tokens) == (whole.prompt_tokens, whole.completion_tokens)
