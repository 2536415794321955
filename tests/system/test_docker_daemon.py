"""The real llama-server in real containers. Skipped where no Docker daemon answers; the other tests have a fake one."""

from __future__ import annotations

import io
import json
import os
import re
import secrets
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


def docker(*arguments: str, content: bytes | None = None) -> str:
    done = subprocess.run(["docker", *arguments], input=content, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


@pytest.fixture(scope="module")
def image(llama_server: Path) -> Iterator[str]:
    """An image like the official one that holds llama-server and the libraries it is linked with, and no more."""
    name = f"corral-test-{secrets.token_hex(4)}"
    try:
        docker("info")
    except (OSError, AssertionError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"no Docker daemon answers: {error}")
    archive = io.BytesIO()
    try:
        linked = subprocess.run(["ldd", llama_server], capture_output=True, text=True, check=True).stdout
        with tarfile.open(fileobj=archive, mode="w", dereference=True) as tar:
            tar.add(llama_server, "/app/llama-server")
            for path in re.findall(r"(/\S+) \(", linked):
                tar.add(path, path)
        docker("import", "-c", 'ENTRYPOINT ["/app/llama-server"]', "-", name, content=archive.getvalue())
        docker("run", "--rm", name, "--version")
    except (OSError, AssertionError, subprocess.SubprocessError) as error:
        pytest.skip(f"no image can be made or run of {llama_server}: {error}")
    yield name
    docker("rmi", "-f", name)


def make_stack(request: pytest.FixtureRequest, image: str, network: str) -> Stack:
    models = request.getfixturevalue("tiny_gguf").parent
    return start_stack(
        request.getfixturevalue("tmp_path_factory").mktemp("docked"),
        request,
        backends_llama_cpp_args="",
        backends_llama_cpp_docker_image=image,
        backends_llama_cpp_docker_args=f"run --rm {network} -v {models}:{models}:ro",
    )


@pytest.fixture(scope="module")
def docked(request: pytest.FixtureRequest, image: str) -> Stack:
    """A Corral whose containers have the host's network."""
    return make_stack(request, image, "--network host")


@pytest.fixture
def boxed(docked: Stack, tiny_gguf: Path) -> Iterator[str]:
    """The name of the container of the instance "boxed", which is ready."""
    run_boxed(docked, tiny_gguf)
    yield only_container()
    docked.remove("boxed")
    assert containers() == []


def run_boxed(stack: Stack, model: Path, **options: Any) -> dict[str, Any]:
    options = {"docker_enabled": True, "environment": {"TOLD": "yes"}, **options}
    return stack.run_now("boxed", backend_options={"model": str(model), "ctx_size": 2048, "threads": 1}, **options)


def containers() -> list[str]:
    return docker("ps", "--all", "--filter", "name=corral-boxed-", "--format", "{{.Names}}").split()


def only_container() -> str:
    found = containers()
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize("network", ["--network host", "--network bridge"])
def test_it_chats_through_the_hosts_network_and_through_a_published_port(
    request: pytest.FixtureRequest, image: str, tiny_gguf: Path, network: str
) -> None:
    stack = request.getfixturevalue("docked") if "host" in network else make_stack(request, image, network)
    port = run_boxed(stack, tiny_gguf)["port"]
    name = only_container()
    assert stack.chat("boxed", max_tokens=8).json()["usage"]["completion_tokens"] == 8
    with stack.stream("boxed", max_tokens=8) as lines:
        assert texts(lines)[-1] == "[DONE]"
    environment = json.loads(docker("inspect", "--format", "{{json .Config.Env}}", name))
    assert "TOLD=yes" in environment
    assert stack.api.post(f"http://127.0.0.1:{port}/v1/chat/completions", json={}).status_code == 401  # a key is wanted
    assert "listening" in stack.api.get("/api/v1/instances/boxed/logs").text
    assert stack.act("boxed", "restart").status_code == 200
    stack.wait_for("boxed", "ready")
    assert only_container() != name
    assert stack.act("boxed", "stop").json()["state"] == "stopped"
    assert containers() == []
    stack.remove("boxed")


def test_what_an_engine_in_a_container_uses_is_seen(boxed: str) -> None:
    engine = find_engine({"container": boxed, "environment": dict(os.environ)})
    assert engine is not None
    assert psutil.Process(engine).cmdline()[0] == "/app/llama-server"


def test_a_killed_worker_and_a_restart_of_corral_leave_the_container_alone(docked: Stack, boxed: str) -> None:
    worker = docked.part("worker")
    worker.kill()
    poll(lambda: "adopted run" in docked.said(), what="the adoption")
    docked.down(signal.SIGTERM)
    docked.up()
    docked.wait_for("boxed", "ready")
    assert only_container() == boxed
    assert docked.chat("boxed", max_tokens=2).status_code == 200


def test_a_container_killed_behind_our_back_is_replaced(docked: Stack, boxed: str) -> None:
    docker("kill", boxed)
    poll(lambda: containers() not in ([], [boxed]), what="another container")
    docked.wait_for("boxed", "ready")
    reason = next(event["reason"] for event in docked.events("boxed") if event["to_state"] == "backoff")
    assert reason.startswith("The engine ended with exit code 137 (SIGKILL).")
    assert "No such container" not in reason  # which the clean-up of a container that is gone says


def test_a_container_whose_shim_was_killed_is_removed_by_name(docked: Stack, boxed: str) -> None:
    """It ran on for ever and kept its memory, beside the one that was started in its place."""
    client = psutil.Process(docked.get("boxed")["pid"])
    client.parent().kill()
    poll(lambda: containers() not in ([], [boxed]), what="another container")
    assert only_container() != boxed
    docked.wait_for("boxed", "ready")


def test_an_image_that_is_missing_is_named(docked: Stack, tiny_gguf: Path, image: str) -> None:
    docker("tag", image, f"{image}:kept")
    docker("rmi", image)
    try:
        docked.create("boxed", start=True, docker_enabled=True, auto_restart=False)
        assert f"Unable to find image '{image}:latest' locally" in docked.wait_for("boxed", "failed")["reason"]
    finally:
        docker("tag", f"{image}:kept", image)
        docker("rmi", f"{image}:kept")
        docked.remove("boxed")
    assert containers() == []
