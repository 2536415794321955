"""The life of a running ``corral up``: its pages, its parts, its restarts, its ends. Real processes throughout."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from tests.portal.corral import Corral, CorralFactory, time_until
from tests.system.stack import ROOT, poll

pytestmark = pytest.mark.any_database


def test_the_first_page_answers_and_a_set_up_link_is_printed(running: Corral) -> None:
    status, _ = running.get("/health")
    assert status == 200
    assert f"http://127.0.0.1:{running.port}/setup/" in running.said()


def test_four_parts_run_and_use_less_than_350_megabytes(running: Corral) -> None:
    running.wait_until_said("worker@main ready")
    parts = running.parts()
    assert set(parts) == {"valkey", "web", "worker", "beat"}
    assert running.manager is not None
    used = sum(process.memory_info().rss for process in [psutil.Process(running.manager.pid), *parts.values()])
    assert used < 350 * 2**20


def test_the_embedded_valkey_is_private(running: Corral) -> None:
    path = running.data_dir / "run" / "valkey.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert running.part("valkey").net_connections(kind="inet") == []


def test_a_second_start_on_the_same_folder_is_refused_with_the_first_ones_pid(running: Corral) -> None:
    result = running.run("up")
    assert result.returncode == 1
    assert running.manager is not None
    assert f"process {running.manager.pid}" in result.stderr
    assert "corral down" in result.stderr
    assert running.get("/health")[0] == 200


@pytest.mark.parametrize("name", ["web", "worker", "beat", "valkey"])
def test_a_part_that_was_killed_is_started_again(running: Corral, name: str) -> None:
    killed = running.part(name)
    killed.kill()
    running.wait_until_said(f"{name} was ended by SIGKILL; starting it again")
    poll(lambda: running.part(name).pid != killed.pid, what=f"a new {name}")
    assert running.get("/health")[0] == 200


def test_a_killed_web_server_refuses_no_connection(running: Corral) -> None:
    running.part("web").kill()
    assert running.get("/health")[0] == 200  # the manager's socket held it until the new server took it


def test_an_existing_installation_answers_within_five_seconds_and_ctrl_c_leaves_nothing(
    make_corral: CorralFactory,
) -> None:
    corral = make_corral(prepared=True)
    began = time.monotonic()
    assert corral.run("check").returncode == 0  # what this machine needs to load the settings and all apps once
    yardstick_s = time.monotonic() - began
    began = time.monotonic()
    corral.up()
    assert corral.get("/health")[0] == 200
    assert time.monotonic() - began < max(5, 5 * yardstick_s)
    assert corral.signal(signal.SIGINT) == 0
    assert "Stopping everything." in corral.said()
    assert corral.left_over() == []
    assert not (corral.data_dir / "run" / "stop-models").exists()


def test_sigterm_ends_all_parts(make_corral: CorralFactory) -> None:
    corral = make_corral(prepared=True)
    corral.up()
    assert corral.signal(signal.SIGTERM) == 0
    assert "the models keep running" in corral.said()
    assert corral.left_over() == []


def test_a_start_can_be_interrupted_at_any_moment(make_corral: CorralFactory) -> None:
    corral = make_corral(prepared=True)
    for delay_s in (0.3, 0.8, 1.5):
        with contextlib.suppress(AssertionError):
            start_and_interrupt(corral, delay_s)
        assert corral.manager is not None
        assert corral.manager.returncode in {0, -signal.SIGINT, 130}, corral.said()
        assert corral.left_over() == []
    corral.up()
    assert corral.get("/health")[0] == 200


def test_an_interrupt_while_modules_and_settings_are_loaded_is_kept(make_corral: CorralFactory, tmp_path: Path) -> None:
    corral = make_corral(prepared=True)
    config = tmp_path / "corral.yaml"
    os.mkfifo(config)
    corral.environment["CORRAL_CONFIG"] = str(config)
    with corral.output.open("ab") as output:
        corral.manager = subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), "up"], env=corral.environment, stdout=output, stderr=output
        )
    with config.open("w"):  # it waits for what we'll write: it reads its settings now
        corral.manager.send_signal(signal.SIGINT)
    assert corral.manager.wait(60) == 0, corral.said()  # 130 would be Python's end in the middle of it
    assert "Stopping" in corral.said()
    assert corral.left_over() == []


def start_and_interrupt(corral: Corral, delay_s: float) -> None:
    """Send SIGINT so many seconds after the beginning of the start."""

    def interrupt() -> None:
        assert corral.manager is not None
        corral.manager.send_signal(signal.SIGINT)

    timer = threading.Timer(delay_s, interrupt)
    timer.start()
    try:
        corral.up()
    finally:
        timer.join()
        assert corral.manager is not None
        corral.manager.wait(60)


def test_down_stops_it_from_elsewhere_and_says_so(make_corral: CorralFactory) -> None:
    corral = make_corral(prepared=True)
    corral.up()
    result = corral.run("down")
    assert result.returncode == 0, result.stderr
    assert "Stopped Corral" in result.stdout
    assert "Stopping everything." in corral.said()
    corral.wait_until_gone()
    again = corral.run("down")
    assert again.returncode == 0
    assert "not running" in again.stdout


def test_down_can_leave_the_models(make_corral: CorralFactory) -> None:
    corral = make_corral(prepared=True)
    corral.up()
    assert corral.run("down", "--keep-models").returncode == 0
    assert "the models keep running" in corral.said()


def test_the_parts_end_with_a_killed_manager_and_the_next_start_works(make_corral: CorralFactory) -> None:
    corral = make_corral(prepared=True)
    corral.up()
    corral.wait_until_said("worker@main ready")
    assert corral.manager is not None
    corral.manager.kill()
    corral.manager.wait()
    corral.wait_until_gone()
    corral.up()
    assert corral.get("/health")[0] == 200


def test_an_orphaned_valkey_on_the_socket_is_replaced(make_corral: CorralFactory) -> None:
    from portal.env import Settings
    from portal.up.valkey import find_valkey_binary

    corral = make_corral(prepared=True)
    place = Settings(data_dir=corral.data_dir).valkey_socket
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    words = [str(find_valkey_binary()), "--port", "0", "--unixsocket", str(place), "--save", ""]
    orphan = psutil.Popen(words, cwd=place.parent)
    try:
        poll(place.exists, what="the orphan listens")
        corral.up()
        assert orphan.wait(60) == 0
        assert "an earlier `corral up` had left behind" in corral.said()
    finally:
        if orphan.poll() is None:
            orphan.kill()


def test_several_web_processes_share_the_port_and_end_together(make_corral: CorralFactory) -> None:
    corral = make_corral(prepared=True, web_workers="2")
    corral.up()
    assert corral.get("/health")[0] == 200
    assert len(corral.part("web").children()) >= 2
    assert corral.signal(signal.SIGINT) == 0
    assert corral.left_over() == []


def test_a_second_ctrl_c_kills_a_part_that_hangs(make_corral: CorralFactory) -> None:
    corral = make_corral(prepared=True)
    corral.up()
    worker = corral.part("worker")
    os.kill(worker.pid, signal.SIGSTOP)
    assert corral.manager is not None
    corral.manager.send_signal(signal.SIGINT)
    corral.wait_until_said("Stopping everything.")
    poll(lambda: "beat" not in corral.parts(), what="the worker's turn to stop")
    assert time_until(lambda: interrupted(corral)) < 30  # it would have been given 40 seconds
    assert corral.left_over() == []


def interrupted(corral: Corral) -> bool:
    """Send another Ctrl-C unless the manager has ended."""
    assert corral.manager is not None
    if corral.manager.poll() is None:
        corral.manager.send_signal(signal.SIGINT)
    return corral.manager.poll() is not None
