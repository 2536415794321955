"""Running an engine's program for its help, version or devices, with real programs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from instances.domain.backend_info import describe_backend
from tests.instances.shim.harness import is_alive, wait_until


def program(folder: Path, text: str) -> str:
    path = folder / "engine"
    path.write_text(f"#!{sys.executable}\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_the_configured_command_its_arguments_and_environment_are_used(tmp_path: Path, change_settings: Any) -> None:
    """llamactl 11.2-36: the configured command was ignored. llama-server prints its version on stderr."""
    script = "import os, sys\nprint(sys.argv[1:], os.environ['X'], 'CORRAL_SECRET_KEY' in os.environ, file=sys.stderr)"
    change_settings(
        backends_llama_cpp_command=program(tmp_path, script),
        backends_llama_cpp_args=["--a"],
        backends_llama_cpp_environment={"X": "y"},
    )

    assert describe_backend("llama_cpp", "devices") == {"output": "['--a', '--list-devices'] y False\n", "error": ""}


def test_a_flag_that_fails_behind_the_arguments_is_tried_without_them(tmp_path: Path, change_settings: Any) -> None:
    script = "import sys\nprint('gpu0') if sys.argv[1:] == ['--list-devices'] else sys.exit('unknown')"
    change_settings(backends_vllm_command=program(tmp_path, script), backends_vllm_args=["serve"])

    assert describe_backend("vllm", "devices")["output"] == "gpu0\n"


def test_vllms_version_is_asked_without_its_subcommand_which_does_not_know_it(
    tmp_path: Path, change_settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM took 16 s to refuse `serve --version` and as long to answer `--version`: no answer came in time."""
    script = "import sys\nprint(sys.argv[1:])"
    change_settings(backends_vllm_command=program(tmp_path, script), backends_vllm_args=["-m", "vllm", "serve"])
    assert describe_backend("vllm", "version")["output"] == "['-m', 'vllm', '--version']\n"

    (tmp_path / "engine").rename(tmp_path / "docker")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    change_settings(
        backends_vllm_docker_enabled=True, backends_vllm_docker_args=["run"], backends_vllm_docker_image="image:1"
    )
    assert describe_backend("vllm", "version")["output"] == "['run', '--entrypoint', 'vllm', 'image:1', '--version']\n"


@pytest.mark.timed
def test_all_tries_together_have_the_time_of_one(
    tmp_path: Path, change_settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("instances.domain.backend_info.COMMAND_S", 3.0)
    script = f"import time\nopen({str(tmp_path / 'calls')!r}, 'a').write('x')\ntime.sleep(60)"
    change_settings(backends_llama_cpp_command=program(tmp_path, script), backends_llama_cpp_args=["--a"])

    assert describe_backend("llama_cpp", "version")["error"] == "no answer within 3 s"
    assert (tmp_path / "calls").read_text() == "x"


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("no-such-program", 'exec: "no-such-program": executable file not found in $PATH'),
        ("/no/such", 'exec: "/no/such": executable file not found in $PATH'),
    ],
)
def test_a_missing_program_is_told_in_llamactls_words(change_settings: Any, command: str, error: str) -> None:
    change_settings(backends_llama_cpp_command=command)

    assert describe_backend("llama_cpp", "help") == {"output": "", "error": error}


def test_a_failure_is_told_with_its_last_line(tmp_path: Path, change_settings: Any) -> None:
    change_settings(backends_llama_cpp_command=program(tmp_path, "import sys; print('a'); sys.exit('bad driver')"))

    assert describe_backend("llama_cpp", "help")["error"] == "exit status 1: bad driver"


@pytest.mark.timed
def test_a_program_that_hangs_is_ended_with_its_children(
    tmp_path: Path, change_settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("instances.domain.backend_info.COMMAND_S", 3.0)
    noted = tmp_path / "child"
    script = f"""
import subprocess, time
child = subprocess.Popen(["/bin/sleep", "60"])
open({str(noted)!r}, "w").write(str(child.pid))
time.sleep(60)
"""
    change_settings(backends_llama_cpp_command=program(tmp_path, script))

    assert describe_backend("llama_cpp", "help")["error"] == "no answer within 3 s"
    wait_until(lambda: not is_alive(int(noted.read_text())), "the child is gone")


def test_docker_is_honoured(tmp_path: Path, change_settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """llamactl 11.2-36: docker mode was ignored."""
    docker = tmp_path / "docker"
    docker.write_text(f"#!{sys.executable}\nimport sys\nprint(sys.argv[1:])\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    change_settings(
        backends_llama_cpp_docker_enabled=True,
        backends_llama_cpp_docker_args=["run", "--rm"],
        backends_llama_cpp_docker_image="image:1",
    )

    assert describe_backend("llama_cpp", "version")["output"] == "['run', '--rm', 'image:1', '--version']\n"
