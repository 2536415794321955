"""The real llama-server in real containers. Skipped where no Docker daemon answers; the other tests have a fake one."""

from __future__ import annotations

import io
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from instances.supervisor.containers import find_engine
from tests.system.conftest import start_stack
from tests.system.stack import Stack, poll, texts

pytestmark = [pytest.mark.engine, pytest.mark.any_database]
BOXED = f"boxed-{secrets.token_hex(3)}"


def docker(*arguments: str, content: bytes | None = None) -> str:
    done = subprocess.run(["docker", *arguments], input=content, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


@pytest.fixture(scope="module")
def image(llama_server: Path) -> Iterator[str]:
    """An image like the official one that holds llama-server and the libraries it is linked with, and no more."""
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode
    ):
        pytest.skip("no Docker daemon answers; tests/system/test_docker.py has a docker of its own")
    if shutil.which("ldd") is None:
        pytest.skip("there is no ldd to tell which libraries an image must hold")
    name = f"corral-test-{secrets.token_hex(4)}"
    archive = io.BytesIO()
    linked = subprocess.run(["ldd", llama_server], capture_output=True, text=True, check=True).stdout
    with tarfile.open(fileobj=archive, mode="w", dereference=True) as tar:
        tar.add(llama_server, "/app/llama-server")
        for path in re.findall(r"(/\S+) \(", linked):
            tar.add(path, path)
    docker("import", "-c", 'ENTRYPOINT ["/app/llama-server"]', "-", name, content=archive.getvalue())
    docker("run", "--rm", name, "--version")
    yield name
    docker("rmi", "-f", name)


@pytest.fixture(scope="module")
def docked(request: pytest.FixtureRequest, image: str, tiny_gguf: Path) -> Stack:
    """A Corral whose containers have the host's network; what it takes for vLLM is llama-server, its port published."""
    run = f"run --rm -v {tiny_gguf.parent}:{tiny_gguf.parent}:ro"
    return start_stack(
        request.getfixturevalue("tmp_path_factory").mktemp("docked"),
        request,
        backends_llama_cpp_docker_image=image,
        backends_llama_cpp_docker_args=f"{run} --network host",
        backends_vllm_docker_image=image,
        backends_vllm_docker_args=run,
    )


@pytest.fixture
def boxed(docked: Stack, tiny_gguf: Path) -> Iterator[str]:
    """The name of the container of an instance that is ready."""
    run_boxed(docked, tiny_gguf)
    yield only_container()
    docked.remove(BOXED)
    assert containers() == []


def run_boxed(stack: Stack, model: Path, **options: Any) -> dict[str, Any]:
    told = {"environment": {"TOLD": "yes"}, "backend_options": {"model": str(model)}}
    return stack.run_now(BOXED, docker_enabled=True, **told, **options)


def containers() -> list[str]:
    return docker("ps", "--all", "--filter", f"name=corral-{BOXED}-", "--format", "{{.Names}}").split()


def only_container() -> str:
    found = containers()
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize(("engine", "variable"), [("llama_cpp", "LLAMA_API_KEY"), ("vllm", "VLLM_API_KEY")])
def test_it_chats_through_the_hosts_network_and_through_a_published_port(
    docked: Stack, tiny_gguf: Path, engine: str, variable: str
) -> None:
    port = run_boxed(docked, tiny_gguf, backend_type=engine)["port"]
    name = only_container()
    assert docked.chat(BOXED, max_tokens=8).json()["usage"]["completion_tokens"] == 8
    with docked.stream(BOXED, max_tokens=8) as lines:
        assert texts(lines)[-1] == "[DONE]"
    entries = json.loads(docker("inspect", "--format", "{{json .Config.Env}}", name))
    environment = dict(entry.split("=", 1) for entry in entries)
    assert environment["TOLD"] == "yes"
    assert environment[variable]
    used = find_engine({"container": name, "environment": dict(os.environ)})
    assert psutil.Process(used).cmdline()[0] == "/app/llama-server"  # what the metrics count
    if engine == "llama_cpp":  # the other variable says nothing to llama-server
        assert docked.api.post(f"http://127.0.0.1:{port}/v1/chat/completions", json={}).status_code == 401
    assert "listening" in docked.api.get(f"/api/v1/instances/{BOXED}/logs").text
    assert docked.act(BOXED, "restart").status_code == 200
    docked.wait_for(BOXED, "ready")
    assert only_container() != name
    assert docked.act(BOXED, "stop").json()["state"] == "stopped"
    assert containers() == []
    docked.remove(BOXED)


def test_a_killed_worker_and_a_restart_of_corral_leave_the_container_alone(docked: Stack, boxed: str) -> None:
    worker = docked.part("worker")
    worker.kill()
    poll(lambda: "adopted run" in docked.said(), what="the adoption")
    docked.down(signal.SIGTERM)
    docked.up()
    docked.wait_for(BOXED, "ready")
    assert only_container() == boxed
    assert docked.chat(BOXED, max_tokens=2).status_code == 200


def test_a_container_killed_behind_our_back_is_replaced(docked: Stack, boxed: str) -> None:
    docker("kill", boxed)
    poll(lambda: containers() not in ([], [boxed]), what="another container")
    docked.wait_for(BOXED, "ready")
    reason = next(event["reason"] for event in docked.events(BOXED) if event["to_state"] == "backoff")
    assert reason.startswith("The engine ended with exit code 137 (SIGKILL).")
    assert "No such container" not in reason  # which the clean-up of a container that is gone says


def test_a_container_whose_shim_was_killed_is_removed_by_name(docked: Stack, boxed: str) -> None:
    """It ran on for ever and kept its memory, beside the one that was started in its place."""
    client = psutil.Process(docked.get(BOXED)["pid"])
    client.parent().kill()
    poll(lambda: containers() not in ([], [boxed]), what="another container")
    assert only_container() != boxed
    docked.wait_for(BOXED, "ready")


def test_an_image_that_is_missing_is_named(docked: Stack, tiny_gguf: Path, image: str) -> None:
    docker("tag", image, f"{image}:kept")
    docker("rmi", image)
    docked.create(BOXED, start=True, docker_enabled=True, auto_restart=False)
    reason = docked.wait_for(BOXED, "failed")["reason"]
    docker("tag", f"{image}:kept", image)
    docker("rmi", f"{image}:kept")
    docked.remove(BOXED)
    assert f"Unable to find image '{image}:latest' locally" in reason
    assert containers() == []
