"""Fixtures around the fakes; a conftest imports what it needs from here."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FAKES = Path(__file__).parent
# Isolated and without site-packages: a fifth of a second sooner on a busy machine.
FAKE_ENGINE = (sys.executable, "-I", "-S", str(FAKES / "engine.py"))


class FakeDocker:
    """A running daemon for the fake docker command."""

    def __init__(self, folder: Path, command: Path) -> None:
        self.folder = folder
        self.command = str(command)
        self.environment = {"FAKE_DOCKER_DIR": str(folder)}

    def read_containers(self) -> dict[str, dict[str, Any]]:
        """The containers by name: pid, image, arguments, environment, ports, flags, is_running, exit_code."""
        containers: dict[str, dict[str, Any]] = json.loads((self.folder / "containers.json").read_text())
        return containers


@pytest.fixture
def fake_engine_program(tmp_path: Path) -> Path:
    """The fake engine as one executable file, for settings that take a program and no arguments."""
    return write_program(tmp_path / "fake-engine", FAKES / "engine.py")


@pytest.fixture
def fake_docker() -> Iterator[FakeDocker]:
    """A fake docker daemon and the command that talks to it; containers are gone after the test."""
    # Not tmp_path, whose length may exceed what the address of a Unix socket can hold.
    with tempfile.TemporaryDirectory(prefix="docker-") as name:
        folder = Path(name)
        argv = [sys.executable, "-I", "-S", str(FAKES / "docker_daemon.py"), name]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as daemon:
            assert daemon.stdout is not None
            assert daemon.stdout.readline() == b"ready\n"
            yield FakeDocker(folder, write_program(folder / "docker", FAKES / "docker.py"))
            daemon.terminate()


def write_program(path: Path, script: Path) -> Path:
    """An executable that runs a script of the fakes with this interpreter, whatever PATH says."""
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{script}" "$@"\n')
    path.chmod(0o755)
    return path
