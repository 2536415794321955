"""``corral down`` where no Corral runs: models that were left behind are found by identity and stopped."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from instances.shim.state import read_boot_id, read_create_time, read_start_ticks
from tests.portal.corral import Corral, CorralFactory

pytestmark = pytest.mark.any_database


def leave_model(corral: Corral, request: pytest.FixtureRequest, **changes: object) -> subprocess.Popen[bytes]:
    """Start a process that looks like a shim, with the state file of one."""
    token = secrets.token_hex(16)
    folder = corral.data_dir / "runs" / token
    folder.mkdir(parents=True)
    process = subprocess.Popen([sys.executable, "-c", "input()", str(folder / "spec.json")], stdin=subprocess.PIPE)
    request.addfinalizer(lambda: end(process))
    state = {
        "shim_pid": process.pid,
        "shim_start_ticks": read_start_ticks(process.pid),
        "shim_create_time": read_create_time(process.pid),
        "boot_id": read_boot_id(),
        "token": token,
        "exited_at": None,
        **changes,
    }
    (folder / "state.json").write_text(json.dumps(state))
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process of a test."""
    process.kill()
    process.communicate()


def test_models_left_behind_are_stopped(make_corral: CorralFactory, request: pytest.FixtureRequest) -> None:
    corral = make_corral()
    process = leave_model(corral, request)
    # A shim that was left is a child of init, which notices its end at once; this one's parent is the test.
    reaper = threading.Thread(target=process.wait)
    reaper.start()
    result = corral.run("down")
    assert result.returncode == 0, result.stderr
    assert "Stopped 1 model that ran without Corral." in result.stdout
    reaper.join(10)
    assert process.returncode == -signal.SIGTERM


def test_models_left_behind_can_stay(make_corral: CorralFactory, request: pytest.FixtureRequest) -> None:
    corral = make_corral()
    process = leave_model(corral, request)
    result = corral.run("down", "--keep-models")
    assert "Left 1 model running" in result.stdout
    assert process.poll() is None


@pytest.mark.parametrize(
    "changes",
    [
        {"boot_id": "another boot"},
        {"token": "0" * 32},
        {"shim_start_ticks": 1, "shim_create_time": 1.0},
        {"exited_at": 1.0},
    ],
)
def test_a_process_that_is_not_ours_is_left_alone(
    make_corral: CorralFactory, request: pytest.FixtureRequest, changes: dict[str, object]
) -> None:
    corral = make_corral()
    process = leave_model(corral, request, **changes)
    assert corral.run("down").returncode == 0
    assert process.poll() is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"shim_pid": "x"}'])
def test_a_broken_state_file_harms_nothing(make_corral: CorralFactory, content: str) -> None:
    corral = make_corral()
    path: Path = corral.data_dir / "runs" / "a" / "state.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert corral.run("down").returncode == 0
