"""Processes that an earlier supervisor left: taken over when they are known, ended when nobody knows them."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from instances.models import Run
from instances.supervisor.adoption import end_orphans, find_shim
from instances.supervisor.identity import identify
from tests.factories import make_instance, make_run
from tests.instances.shim.harness import ShimRun, is_alive, wait_until

FOR_EVER = "import signal; signal.pause()"


@pytest.fixture
def shim(tmp_path: Path, change_settings: Callable[..., None]) -> Iterator[ShimRun]:
    """A shim in the data folder with a process below it."""
    change_settings(data_dir=tmp_path)
    token = uuid.uuid4().hex
    folder = tmp_path / "runs" / token
    folder.mkdir(parents=True)
    shim = ShimRun(folder, token)
    shim.start([sys.executable, "-c", FOR_EVER])
    shim.wait_for_state("child_pid")
    yield shim
    shim.kill_everything()


def test_a_shim_of_no_active_run_is_ended_with_its_engine_and_others_are_not(shim: ShimRun, tmp_path: Path) -> None:
    """llamactl 11.2-12: what ran on after a crash was never found."""
    engine = shim.wait_for_state("child_pid")
    assert end_orphans(tmp_path, {shim.token}) == 0
    assert end_orphans(tmp_path / "another installation", set()) == 0
    assert is_alive(engine)
    assert end_orphans(tmp_path, set()) == 1
    shim.wait()
    assert not is_alive(engine)


def note_process(run: Run, pid: int) -> None:
    """Write down a process as the run's, as the supervisor does after the start."""
    identity = identify(pid)
    assert identity is not None
    run.shim_pid, run.shim_create_time, run.boot_id = identity.pid, identity.started, identity.boot_id
    run.save()


def test_a_shim_is_known_by_its_pid_and_start_or_by_its_token(db: None, shim: ShimRun) -> None:
    """llamactl 11.2-12: no process was known again. The supervisor may have died before it noted the pid."""
    run = make_run(make_instance(), token=shim.token)
    unnoted = find_shim(run)
    note_process(run, shim.pid)
    noted = find_shim(run)
    for found in (unnoted, noted):
        assert found is not None
        assert found.identity.pid == shim.pid
        found.close()


def test_a_stranger_with_the_pid_of_a_dead_shim_is_not_taken_for_it(db: None, shim: ShimRun) -> None:
    run = make_run(make_instance(), token=shim.token)
    shim.kill_everything()
    wait_until(lambda: not psutil.pid_exists(shim.pid), "the shim is gone")
    note_process(run, os.getpid())
    assert find_shim(run) is None
