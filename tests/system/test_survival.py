"""What breaks around the models does not break the models."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.system.conftest import StackFactory
from tests.system.stack import ROOT, Stack, poll, texts

pytestmark = pytest.mark.any_database


@pytest.fixture
def own(make_corral: StackFactory) -> Stack:
    """A Corral of the test's own, to break."""
    return make_corral()


def test_a_worker_killed_with_9_while_a_stream_runs_breaks_nothing_and_is_replaced_by_one_that_adopts(
    own: Stack,
) -> None:
    before = own.run_now("survivor", flags={"stream_tokens": 40, "every": 0.1})
    with own.stream("survivor", max_tokens=40) as lines:
        next(lines)
        worker = own.part("worker")
        worker.kill()
        pieces = texts(lines)
    assert pieces[-1] == "[DONE]"
    assert len(pieces) >= 39
    poll(lambda: own.part("worker").pid != worker.pid, what="a new worker")
    poll(lambda: "adopted run" in own.said(), what="the adoption")
    after = own.get("survivor")
    assert (after["pid"], after["state"]) == (before["pid"], "ready")
    assert own.act("survivor", "stop").json()["state"] == "stopped"
    assert not psutil.pid_exists(before["pid"])


def test_sigterm_leaves_models_running_and_the_next_start_adopts_them(own: Stack) -> None:
    """llamactl 11.2-12: processes of an earlier run were not found again."""
    before = own.run_now("kept")
    own.down(signal.SIGTERM)
    assert psutil.pid_exists(before["pid"])
    own.up()
    after = own.wait_for("kept", "ready")
    assert after["pid"] == before["pid"]
    assert own.chat("kept").status_code == 200


def test_ctrl_c_stops_models_too_and_the_next_start_brings_them_back(own: Stack) -> None:
    before = own.run_now("resting")
    own.down(signal.SIGINT)
    assert not psutil.pid_exists(before["pid"])
    own.up()
    poll(lambda: own.get("resting")["pid"] not in (None, before["pid"]), what="a new process")
    own.wait_for("resting", "ready")


def test_models_stopped_by_down_after_a_sigterm_come_back_too(own: Stack) -> None:
    before = own.run_now("left")
    own.down(signal.SIGTERM)
    command = [sys.executable, "-m", "portal.cli", "down"]
    subprocess.run(command, cwd=ROOT, env=own.environment, check=True, timeout=60, stdout=subprocess.DEVNULL)
    assert not psutil.pid_exists(before["pid"])
    own.up()
    poll(lambda: own.get("left")["pid"] not in (None, before["pid"]), what="a new process")
    own.wait_for("left", "ready")


def test_a_model_that_died_while_corral_was_away_is_started_again(own: Stack) -> None:
    """llamactl 11.2-12: what crashed meanwhile was not known."""
    before = own.run_now("lazarus")
    own.down(signal.SIGTERM)
    psutil.Process(before["pid"]).kill()
    own.up()
    poll(lambda: own.get("lazarus")["pid"] not in (None, before["pid"]), what="a new process")
    own.wait_for("lazarus", "ready")


def test_a_model_killed_with_its_shim_leaves_no_children(own: Stack) -> None:
    ready = own.run_now("orphans", auto_restart=False, flags={"fork_children": True, "ignore_term": True})
    logs = own.api.get("/api/v1/instances/orphans/logs").text
    children = [
        int(line.split()[1]) for line in logs.splitlines() if line.split()[:1] in (["child"], ["session"], ["orphan"])
    ]
    psutil.Process(ready["pid"]).parent().kill()
    own.wait_for("orphans", "failed", "stopped")
    poll(lambda: not any(psutil.pid_exists(pid) for pid in (ready["pid"], *children)), what="all are gone")


def test_valkey_killed_and_back_loses_no_model_and_no_request_after_it(own: Stack) -> None:
    before = own.run_now("calm")
    own.part("valkey").kill()
    assert own.chat("calm").status_code == 200
    poll(lambda: own.api.get("/readyz").status_code == 200, what="Corral is whole again")
    own.create("later")
    assert own.act("later", "start").status_code == 200
    own.wait_for("later", "ready")
    assert own.get("calm")["pid"] == before["pid"]
    assert own.act("calm", "stop").json()["state"] == "stopped"


def test_a_stop_waits_for_a_request_in_flight_but_not_for_ever(own: Stack) -> None:
    own.run_now("endless", flags={"stream_tokens": 10000, "every": 0.1})
    with own.stream("endless", max_tokens=10000) as lines:
        next(lines)
        began = time.monotonic()
        assert own.act("endless", "stop").json()["state"] == "stopped"
        took = time.monotonic() - began
    assert took >= 5  # the drain time of the test's settings


def test_a_stop_lets_a_request_in_flight_finish(own: Stack) -> None:
    own.run_now("polite", flags={"stream_tokens": 20, "every": 0.1})
    with own.stream("polite", max_tokens=20) as lines:
        next(lines)
        own.act("polite", "stop")
        pieces = texts(lines)
    assert pieces[-1] == "[DONE]"


def test_an_instance_deleted_from_the_database_loses_its_process(own: Stack) -> None:
    import sqlite3

    if own.environment.get("CORRAL_DATABASE_URL"):
        import psycopg

        pid = own.run_now("erased")["pid"]
        with psycopg.connect(own.environment["CORRAL_DATABASE_URL"]) as connection:
            for table in ("instances_run", "instances_instanceevent"):
                connection.execute(f"DELETE FROM {table}")
            connection.execute("DELETE FROM instances_instance")
    else:
        pid = own.run_now("erased")["pid"]
        with sqlite3.connect(own.data_dir / "corral.sqlite3", timeout=60) as connection:
            for table in ("instances_instanceevent", "instances_run", "instances_instance"):
                connection.execute(f"DELETE FROM {table}")
        connection.close()
    poll(lambda: not psutil.pid_exists(pid), what="the process is ended")
