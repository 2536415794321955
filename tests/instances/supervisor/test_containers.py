"""What the supervisor asks docker and tells it, with a docker command that writes down how it was called."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from instances.supervisor.containers import ContainerProcesses, end_leftovers

pytestmark = pytest.mark.any_database
PROGRAM = """#!{python} -ISsu
import sys
open({calls!r}, "a").write(" ".join(sys.argv[1:]) + "\\n")
print({answer!r})
sys.exit({code})
"""


class Docker:
    """A docker command in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._calls = folder / "calls"
        self.answers("")

    def answers(self, answer: str, code: int = 0) -> None:
        text = PROGRAM.format(python=sys.executable, calls=str(self._calls), answer=answer, code=code)
        (self.folder / "docker").write_text(text)
        (self.folder / "docker").chmod(0o755)

    def calls(self) -> list[str]:
        return self._calls.read_text().splitlines() if self._calls.exists() else []


@pytest.fixture
def docker(tmp_path: Path) -> Docker:
    (tmp_path / "bin").mkdir()
    return Docker(tmp_path / "bin")


@pytest.fixture
def run_dir(tmp_path: Path, docker: Docker) -> Path:
    return write_run(tmp_path, docker, container="corral-x-1", cleanup_argv=["docker", "rm", "-f", "corral-x-1"])


def write_run(tmp_path: Path, docker: Docker, state: dict[str, Any] | None = None, **spec: Any) -> Path:
    folder = tmp_path / "0123"
    folder.mkdir()
    (folder / "spec.json").write_text(json.dumps({"environment": {"PATH": str(docker.folder)}, **spec}))
    (folder / "state.json").write_text(json.dumps(state or {}))
    return folder


@pytest.fixture
def engine() -> Iterator[int]:
    """A process in a control group that can't be chosen; its id stands for the container's in these tests."""
    with subprocess.Popen(["/bin/sleep", "60"]) as process:
        yield process.pid
        process.kill()


def group_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text().splitlines()[0]


def test_a_run_whose_shim_was_killed_is_cleaned_up(run_dir: Path, docker: Docker) -> None:
    end_leftovers(run_dir)
    assert docker.calls() == ["rm -f corral-x-1"]


@pytest.mark.parametrize(
    ("state", "is_done"),
    [
        ({"child_pid": 5, "exited_at": 1.0, "cleaned_up": True}, True),
        ({"child_pid": 5, "exited_at": 1.0, "cleaned_up": False}, False),
        ({"child_pid": None, "exited_at": 1.0, "error": "no such program"}, True),
    ],
    ids=["the shim did it", "the shim tried in vain", "nothing was ever started"],
)
def test_what_the_shim_has_cleaned_up_is_not_cleaned_up_again(
    tmp_path: Path, docker: Docker, state: dict[str, object], is_done: bool
) -> None:
    end_leftovers(write_run(tmp_path, docker, state, cleanup_argv=["docker", "rm", "x"]))
    end_leftovers(tmp_path / "gone")
    assert docker.calls() == ([] if is_done else ["rm x"])


def test_a_docker_that_fails_or_is_missing_is_told_and_stops_nothing(
    run_dir: Path, docker: Docker, caplog: pytest.LogCaptureFixture
) -> None:
    docker.answers("", 1)
    end_leftovers(run_dir)
    assert "exit code 1" in caplog.text
    (docker.folder / "docker").unlink()
    end_leftovers(run_dir)
    assert "can't be cleaned up" in caplog.text


def test_the_engine_of_a_container_is_looked_up_once_until_it_ends(run_dir: Path, docker: Docker, engine: int) -> None:
    processes = ContainerProcesses()
    docker.answers(f"{engine} {group_of(engine)}".replace(" /", "/"))
    assert [processes.find({run_dir}), processes.find({run_dir})] == [{run_dir: engine}] * 2
    assert len(docker.calls()) == 1
    psutil.Process(engine).kill()
    psutil.Process(engine).wait()
    docker.answers("", 1)
    assert processes.find({run_dir}) == {}
    assert len(docker.calls()) == 2


@pytest.mark.parametrize("answer", ["0 0123456789ab", "{pid} 0123456789ab", "nonsense", ""])
def test_a_process_that_is_not_in_the_containers_group_is_not_taken_for_the_engine(
    run_dir: Path, docker: Docker, answer: str
) -> None:
    """The pid of a daemon on another host or in a virtual machine belongs to a stranger here."""
    docker.answers(answer.format(pid=os.getpid()))
    processes = ContainerProcesses()
    assert [processes.find({run_dir}), processes.find({run_dir})] == [{}, {}]
    assert len(docker.calls()) == 1  # not with every sample


def test_docker_is_not_asked_about_runs_without_a_container(tmp_path: Path, docker: Docker) -> None:
    folder = write_run(tmp_path, docker, container=None)
    assert ContainerProcesses().find({folder, tmp_path / "gone"}) == {}
    assert docker.calls() == []
