"""The real llama-server and the real mlx_lm.server with tiny models, from create to adoption."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.system.conftest import start_stack
from tests.system.stack import Stack, poll, texts

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def real(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, llama_server: Path, mlx_server: Path
) -> Stack:
    """A Corral whose engines are the real ones."""
    return start_stack(
        tmp_path_factory.mktemp("real"),
        request,
        backends_llama_cpp_command=str(llama_server),
        backends_llama_cpp_args="",
        backends_mlx_command=str(mlx_server),
    )


@pytest.fixture(params=["llama_cpp", "mlx_lm"])
def engine(request: pytest.FixtureRequest, real: Stack, tiny_gguf: Path, tiny_hf: Path) -> Iterator[str]:
    """An instance of each engine, ready; its name is the engine's type with a dash."""
    name = request.param.replace("_", "-")
    options: dict[str, dict[str, Any]] = {
        "llama_cpp": {"model": str(tiny_gguf), "ctx_size": 2048, "threads": 1},
        "mlx_lm": {"model": str(tiny_hf)},
    }
    answer = real.api.post(
        f"/api/v1/instances/{name}",
        params={"start": "true"},
        json={"backend_type": request.param, "backend_options": options[request.param], "idle_timeout": 0},
    )
    assert answer.status_code == 201, answer.text
    real.wait_for(name, "ready")
    yield name
    real.remove(name)


def test_it_chats_whole_and_streamed_with_usage(real: Stack, engine: str) -> None:
    whole = real.chat(engine, max_tokens=8)
    assert whole.status_code == 200, whole.text
    assert whole.json()["choices"][0]["message"]["content"].strip()
    assert whole.json()["usage"]["completion_tokens"] > 0
    with real.stream(engine, max_tokens=8) as lines:
        pieces = texts(lines)
    assert pieces[-1] == "[DONE]"
    assert "".join(pieces[:-1]).strip()


def test_its_log_is_there(real: Stack, engine: str) -> None:
    real.chat(engine, max_tokens=2)

    def read_log() -> str:
        return real.api.get(f"/api/v1/instances/{engine}/logs", params={"lines": 50}).text

    assert poll(read_log, what="log lines").strip()


def test_it_stops_and_restarts(real: Stack, engine: str) -> None:
    first = real.get(engine)["pid"]
    assert real.act(engine, "restart").status_code == 200
    second = real.wait_for(engine, "ready")["pid"]
    assert first != second
    assert not psutil.pid_exists(first)
    assert real.act(engine, "stop").json()["state"] == "stopped"
    assert not psutil.pid_exists(second)
    assert real.chat(engine, max_tokens=2).status_code == 200


def test_it_outlives_a_restart_of_corral(real: Stack, engine: str) -> None:
    before = real.get(engine)["pid"]
    real.down(signal.SIGTERM)
    assert psutil.pid_exists(before)
    real.up()
    assert real.wait_for(engine, "ready")["pid"] == before
    assert real.chat(engine, max_tokens=2).status_code == 200


def test_a_model_that_is_no_model_fails_with_the_engines_own_words(real: Stack, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_text("this is not a model")
    body = {"backend_type": "llama_cpp", "auto_restart": False, "backend_options": {"model": str(broken)}}
    real.api.post("/api/v1/instances/broken", params={"start": "false"}, json=body)
    reasons = []
    for _ in range(3):  # seen once on a busy machine: the engine left without its last lines
        real.act("broken", "start")
        reasons.append(real.wait_for("broken", "failed")["reason"])
        if "broken.gguf" in reasons[-1]:
            break
    assert "broken.gguf" in reasons[-1], reasons
    real.remove("broken")


def test_every_native_inference_path_of_llama_server_answers(real: Stack, tiny_gguf: Path) -> None:
    body = {"backend_type": "llama_cpp", "backend_options": {"model": str(tiny_gguf), "ctx_size": 2048}}
    real.api.post("/api/v1/instances/native", params={"start": "true"}, json=body)
    real.wait_for("native", "ready")
    messages = [{"role": "user", "content": "hello"}]
    calls: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": {"messages": messages, "max_tokens": 2},
        "/v1/completions": {"prompt": "hello", "max_tokens": 2},
        "/v1/messages": {"messages": messages, "max_tokens": 2},
        "/v1/responses": {"input": "hello", "max_output_tokens": 2},
    }
    for path, content in calls.items():
        answer = real.api.post(path, json={"model": "native", **content})
        assert answer.status_code == 200, (path, answer.text)
    props = real.api.get("/api/v1/instances/native/proxy/props")
    assert "default_generation_settings" in json.loads(props.text)
    real.remove("native")


def test_the_configured_command_answers_help_version_and_devices(real: Stack) -> None:
    """llamactl 11.2-36: help, version and devices ignored the configured command."""
    for prefix in ("/api/v1/server", "/api/v1/backends/llama-cpp"):
        for what, word in (("help", "--ctx-size"), ("version", "version"), ("devices", "devices")):
            answer = real.api.get(f"{prefix}/{what}")
            assert answer.status_code == 200, answer.text
            assert answer.headers["content-type"].startswith("text/plain")
            assert word in answer.text


def test_the_models_behind_a_router_are_reached_by_body_form_and_query(
    real: Stack, tiny_gguf: Path, tmp_path: Path
) -> None:
    (tmp_path / "inner.gguf").symlink_to(tiny_gguf)
    options = {"models_dir": str(tmp_path), "ctx_size": 512, "threads": 1}
    answer = real.api.post(
        "/api/v1/instances/router",
        params={"start": "true"},
        json={"backend_type": "llama_cpp", "backend_options": options},
    )
    assert answer.status_code == 201, answer.text
    real.wait_for("router", "ready")
    assert real.chat("router/inner", max_tokens=2).json()["usage"]["completion_tokens"] > 0
    asked = {"model": "router/inner"}
    assert real.api.get("/props", params=asked).json()["model_path"].endswith("inner.gguf")
    assert len(real.api.get("/slots", params=asked).json()) > 0
    assert real.api.post("/tokenize", params=asked, json={"content": "one two"}).json()["tokens"]
    files = {"file": ("a.wav", b"no recording", "audio/wav")}
    refused = real.api.post("/v1/audio/transcriptions", params=asked, files=files)
    # The model was found; it can't hear.
    assert "model name is missing" not in refused.text
    assert "not found" not in refused.text
    real.remove("router")
