"""The same options in a container."""

from __future__ import annotations

from pathlib import Path

import pytest

from instances.backends.base import BackendSettings, OptionError
from tests.instances.backends.launches import build

IMAGE = "vllm/vllm-openai:latest"


def settings(*docker_args: str, command: str = "vllm") -> BackendSettings:
    return BackendSettings(
        command=command,
        args=("serve",),
        environment={"A": "settings", "B": "settings"},
        docker_image=IMAGE,
        docker_args=docker_args,
        docker_environment={"B": "docker", "C": "docker"},
    )


def test_a_container_on_the_hosts_network_gets_the_arguments_of_its_image() -> None:
    command = build(
        "vllm",
        {"model": "a/b", "seed": 0},
        settings=settings("run", "--rm", "--network", "host", "--gpus", "all"),
        environment={"C": "instance"},
        api_key="run-key",
        docker_enabled=True,
        container_name="corral-demo",
        command_override="/ignored",
        stop_grace_s=30,
    )
    assert command.argv == (
        *("docker", "run", "--rm", "--network", "host", "--gpus", "all", "--name", "corral-demo"),
        *("-e", "A", "-e", "B", "-e", "C", "-e", "VLLM_API_KEY", IMAGE),
        *("--host", "127.0.0.1", "--port", "8001", "--model", "a/b", "--seed", "0"),
    )
    assert command.environment == {"A": "settings", "B": "docker", "C": "instance", "VLLM_API_KEY": "run-key"}
    assert command.stop_argv == ("docker", "stop", "-t", "30", "corral-demo")
    assert command.cleanup_argv == ("docker", "rm", "-f", "corral-demo")


@pytest.mark.parametrize(
    ("host", "published"),
    [
        (None, "127.0.0.1:8001:8001"),
        ("localhost", "127.0.0.1:8001:8001"),
        ("0.0.0.0", "0.0.0.0:8001:8001"),
        ("::1", "[::1]:8001:8001"),
    ],
)
def test_a_container_on_its_own_network_has_its_port_published(host: str | None, published: str) -> None:
    command = build(
        "llama_cpp",
        {"host": host},
        settings=settings("--rm"),
        docker_enabled=True,
        container_name="corral-demo",
    )
    assert command.argv == (
        *("docker", "run", "--rm", "--name", "corral-demo", "-p", published, "-e", "A", "-e", "B", "-e", "C", IMAGE),
        *("--host", "0.0.0.0", "--port", "8001"),
    )


@pytest.mark.parametrize("network", [["--network=host"], ["--net", "host"], ["--network", "x", "--net=host"]])
def test_every_spelling_of_the_hosts_network_is_known(network: list[str]) -> None:
    command = build("llama_cpp", {}, settings=settings("run", *network), docker_enabled=True, container_name="c")
    assert "-p" not in command.argv


def test_a_host_name_no_port_can_be_published_at_is_refused() -> None:
    with pytest.raises(OptionError, match="host"):
        build("llama_cpp", {"host": "box.lan"}, settings=settings(), docker_enabled=True, container_name="c")


def test_the_preset_file_is_made_visible_inside_the_container() -> None:
    command = build(
        "llama_cpp", {}, settings=settings(), docker_enabled=True, container_name="c", preset_path=Path("/d/preset.ini")
    )
    assert "/d/preset.ini:/d/preset.ini:ro" in command.argv
    assert command.argv[-2:] == ("--models-preset", "/d/preset.ini")


def test_arguments_that_would_detach_the_container_are_left_out() -> None:
    command = build("llama_cpp", {}, settings=settings("run", "-d", "-it"), docker_enabled=True, container_name="c")
    assert not {"-d", "-it"} & set(command.argv)


def test_docker_without_an_image_is_refused() -> None:
    with pytest.raises(OptionError, match="docker_enabled"):
        build("llama_cpp", {}, docker_enabled=True, container_name="c")
