from __future__ import annotations

import os
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.fakes.fixtures import FakeDocker
from tests.instances.shim.harness import ShimRun, is_alive, wait_until

pytestmark = pytest.mark.any_database


@pytest.fixture
def run(tmp_path: Path) -> Iterator[ShimRun]:
    shim_run = ShimRun(tmp_path, uuid.uuid4().hex)
    yield shim_run
    shim_run.kill_everything()


def find_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def call(docker: FakeDocker, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [docker.command, *arguments],
        env={"PATH": os.environ["PATH"], "TOLD": "yes", **docker.environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_it_says_its_version(fake_docker: FakeDocker) -> None:
    assert call(fake_docker, "--version").stdout.startswith("Docker version ")


def test_a_container_gets_only_what_it_is_told(fake_docker: FakeDocker) -> None:
    arguments = ("run", "--name", "one", "--gpus", "all", "-e", "A=1", "-e", "TOLD", "-e", "UNKNOWN", "image")
    result = call(fake_docker, *arguments, "--crash-at-start", "--exit-code", "7")
    assert result.returncode == 7
    assert "failed to load model" in result.stderr
    container = fake_docker.read_containers()["one"]
    assert container["environment"] == {"A": "1", "TOLD": "yes"}
    assert (container["image"], container["is_running"], container["exit_code"]) == ("image", False, 7)
    assert container["flags"][1] == "--gpus=all"
    assert 'The container name "/one" is already in use' in call(fake_docker, "run", "--name=one", "image").stderr
    assert call(fake_docker, "rm", "one").stdout == "one\n"
    assert [call(fake_docker, "rm", *force, "one").returncode for force in ((), ("-f",))] == [1, 0]
    assert fake_docker.read_containers() == {}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("stop", "nobody"), 1, "Error response from daemon: No such container: nobody"),
        (("run", "--no-such", "image"), 125, "unknown flag: --no-such"),
        (("run", "missing/image"), 125, "pull access denied for missing/image"),
        (("run", "--rm"), 125, "requires at least 1 argument"),
        (("pull", "image"), 1, "'pull' is not a docker command"),
    ],
)
def test_it_refuses_as_docker_does(
    fake_docker: FakeDocker, arguments: tuple[str, ...], code: int, message: str
) -> None:
    result = call(fake_docker, *arguments)
    assert result.returncode == code
    assert message in result.stderr


def test_a_container_outlives_its_client_and_is_removed_by_name(fake_docker: FakeDocker, run: ShimRun) -> None:
    port = find_free_port()
    arguments = ["run", "--name", "two", "-p", f"127.0.0.1:{port}:8080", "image", "--port", "8080", "--ignore-term"]
    run.start(
        [fake_docker.command, *arguments],
        environment={"PATH": os.environ["PATH"], **fake_docker.environment},
        cleanup_argv=[fake_docker.command, "rm", "-f", "two"],
    )
    run.wait_for_line(b"listening on")
    assert httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
    pid = fake_docker.read_containers()["two"]["pid"]
    os.kill(run.wait_for_state("child_pid"), signal.SIGKILL)
    assert run.wait()["exit_code"] == -9
    wait_until(lambda: not is_alive(pid), "the end of the container")
    assert fake_docker.read_containers() == {}


def test_the_stop_command_of_a_run_ends_the_container(fake_docker: FakeDocker, run: ShimRun) -> None:
    run.start(
        [fake_docker.command, "run", "--rm", "--name", "three", "image", "--port", "0"],
        environment={"PATH": os.environ["PATH"], **fake_docker.environment},
        stop_argv=[fake_docker.command, "stop", "-t", "5", "three"],
    )
    run.wait_for_line(b"listening on")
    run.signal(signal.SIGTERM)
    assert run.wait()["exit_code"] == 0
    wait_until(lambda: fake_docker.read_containers() == {}, "the container to be gone")
    assert b"stopping\n" in run.read_text("stdout")
