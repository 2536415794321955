"""Engines in containers, through a docker command that behaves as the real one does."""

from __future__ import annotations

import os
import signal
from typing import Any

import psutil
import pytest

from tests.fakes.fixtures import FakeDocker
from tests.system.conftest import StackFactory
from tests.system.stack import Stack, poll

pytestmark = pytest.mark.any_database


@pytest.fixture
def docked(make_corral: StackFactory, fake_docker: FakeDocker) -> Stack:
    """A Corral that finds the fake docker on its PATH."""
    path = f"{fake_docker.folder}:{os.environ['PATH']}"
    return make_corral(environment={"PATH": path, **fake_docker.environment})


def only_container(docker: FakeDocker) -> dict[str, Any]:
    containers = docker.read_containers()
    assert len(containers) == 1, containers
    return next(iter(containers.values()))


@pytest.mark.parametrize("engine", ["llama_cpp", "vllm"])
def test_a_container_is_started_with_its_environment_and_key_used_stopped_and_removed(
    docked: Stack, fake_docker: FakeDocker, engine: str
) -> None:
    body = {
        "backend_type": engine,
        "docker_enabled": True,
        "environment": {"CUDA_VISIBLE_DEVICES": "1"},
        "backend_options": {"model": "org/model"},
    }
    answer = docked.api.post("/api/v1/instances/boxed", params={"start": "true"}, json=body)
    assert answer.status_code == 201, answer.text
    docked.wait_for("boxed", "ready")
    container = only_container(fake_docker)
    assert container["environment"]["CUDA_VISIBLE_DEVICES"] == "1"  # llamactl 11.2-22: it never reached the container
    assert docked.chat("boxed").status_code == 200
    pid = container["pid"]
    assert docked.act("boxed", "stop").json()["state"] == "stopped"
    assert not psutil.pid_exists(pid)
    assert fake_docker.read_containers() == {}


def test_a_container_outlives_a_killed_worker_and_is_still_stopped_by_name(
    docked: Stack, fake_docker: FakeDocker
) -> None:
    """llamactl 11.2-11: containers were left behind."""
    docked.run_now("boxed", docker_enabled=True)
    pid = only_container(fake_docker)["pid"]
    worker = docked.part("worker")
    worker.kill()
    poll(lambda: docked.part("worker").pid != worker.pid, what="a new worker")
    poll(lambda: "adopted run" in docked.said(), what="the adoption")
    assert psutil.pid_exists(pid)
    assert docked.act("boxed", "stop").json()["state"] == "stopped"
    assert fake_docker.read_containers() == {}


def test_a_container_whose_shim_was_killed_is_removed_by_name(docked: Stack, fake_docker: FakeDocker) -> None:
    """Killing the shim kills the docker client, which leaves the container to the daemon."""
    docked.run_now("boxed", docker_enabled=True)
    lost = only_container(fake_docker)["pid"]
    psutil.Process(docked.get("boxed")["pid"]).parent().kill()
    poll(lambda: fake_docker.read_containers() and only_container(fake_docker)["pid"] != lost, what="another container")
    assert not psutil.pid_exists(lost)
    docked.wait_for("boxed", "ready")
    assert docked.act("boxed", "stop").json()["state"] == "stopped"
    assert fake_docker.read_containers() == {}


def test_a_container_whose_shim_was_killed_while_corral_was_down_is_removed_by_name(
    docked: Stack, fake_docker: FakeDocker
) -> None:
    docked.run_now("boxed", docker_enabled=True, auto_restart=False)
    client = psutil.Process(docked.get("boxed")["pid"])
    docked.down(signal.SIGTERM)
    client.parent().kill()
    docked.up()
    docked.wait_for("boxed", "failed")
    assert fake_docker.read_containers() == {}
