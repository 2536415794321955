"""Things that happen at the same time, by name."""

from __future__ import annotations

import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.system.stack import Stack, poll


def test_double_start_makes_one_process(corral: Stack) -> None:
    corral.create("double", flags={"ready_after": 0.3})
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: corral.act("double", "start"), range(8)))
    assert {answer.status_code for answer in answers} == {200}
    corral.wait_for("double", "ready")
    assert corral.states("double") == ["starting", "ready"]


def test_many_first_requests_share_one_start(corral: Stack) -> None:
    """llamactl 11.2-4: only the request that began the start waited; the others failed."""
    corral.create("shared", flags={"ready_after": 0.5})
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: corral.chat("shared"), range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert corral.states("shared").count("starting") == 1


def test_stop_while_starting_ends_the_start(corral: Stack) -> None:
    corral.create("hasty", flags={"never_ready": True})
    corral.act("hasty", "start")
    pid = poll(lambda: corral.get("hasty")["pid"], what="a process")
    assert corral.act("hasty", "stop").json()["state"] == "stopped"
    assert not psutil.pid_exists(pid)


def test_a_request_that_waits_for_a_start_is_told_when_it_is_stopped(corral: Stack) -> None:
    corral.create("called-off", flags={"never_ready": True})
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(corral.chat, "called-off")
        corral.wait_for("called-off", "starting")
        corral.act("called-off", "stop")
        answer = waiting.result(timeout=60)
    assert answer.status_code == 503
    assert "stopped" in answer.json()["error"]["message"]
    assert corral.get("called-off")["state"] == "stopped"


def test_delete_while_starting_leaves_nothing(corral: Stack) -> None:
    corral.create("gone", flags={"never_ready": True})
    corral.act("gone", "start")
    pid = poll(lambda: corral.get("gone")["pid"], what="a process")
    assert corral.api.delete("/api/v1/instances/gone").status_code == 204
    assert not psutil.pid_exists(pid)
    assert corral.api.get("/api/v1/instances/gone").status_code == 404


def test_a_crash_while_a_request_waits_answers_it_with_the_last_log_lines(corral: Stack) -> None:
    """llamactl 11.2-5: a crash was not noticed, and the whole time-out waited for."""
    corral.create("crashing", flags={"never_ready": True, "crash_after": 0.8, "say": "out of memory on device 0"})
    answer = corral.chat("crashing")
    assert answer.status_code == 503
    assert "out of memory on device 0" in answer.json()["error"]["message"]


def test_a_crash_loop_backs_off_and_fails_after_the_count(corral: Stack) -> None:
    corral.create("looping", max_restarts=2, flags={"crash_at_start": True})
    corral.act("looping", "start")
    failed = corral.wait_for("looping", "failed")
    assert corral.states("looping") == ["starting", "backoff", "starting", "backoff", "starting", "failed"]
    assert failed["restart_count"] == 2


def test_a_stop_during_backoff_calls_the_restart_off(corral: Stack) -> None:
    """llamactl 11.2-7: a stop while restarting did nothing."""
    corral.create("pending", max_restarts=3, restart_delay=60, flags={"crash_at_start": True})
    corral.act("pending", "start")
    assert corral.wait_for("pending", "backoff")["status"] == "restarting"
    assert corral.act("pending", "stop").json()["state"] == "stopped"


def test_an_engine_that_crashed_and_cannot_be_spawned_again_fails(corral: Stack, tmp_path: Path) -> None:
    """llamactl 11.2-7: a failed respawn stayed `restarting` for ever."""
    program = tmp_path / "engine"
    program.symlink_to(sys.executable)
    ready = corral.run_now("vanished", command_override=str(program))
    program.unlink()
    psutil.Process(ready["pid"]).kill()
    failed = corral.wait_for("vanished", "failed")
    assert failed["status"] == "failed"
    assert str(program) in failed["reason"]
    assert corral.act("vanished", "stop").json()["status"] == "stopped"


def test_a_start_during_backoff_does_not_wait_for_the_delay(corral: Stack, tmp_path: object) -> None:
    corral.create(
        "impatient",
        restart_delay=600,
        flags={"crash_times": 1, "crash_count_file": f"{tmp_path}/count"},
    )
    corral.act("impatient", "start")
    corral.wait_for("impatient", "backoff")
    corral.act("impatient", "start")
    corral.wait_for("impatient", "ready")


def test_an_engine_that_crashes_at_work_comes_back(corral: Stack) -> None:
    first = corral.run_now("mortal")
    psutil.Process(first["pid"]).kill()
    poll(lambda: corral.get("mortal")["pid"] not in (None, first["pid"]), what="a new process")
    assert corral.wait_for("mortal", "ready")["restart_count"] == 1


def test_a_stop_after_an_automatic_restart_ends_the_new_process(corral: Stack) -> None:
    """llamactl 11.2-6: after an automatic restart, stop neither waited nor killed."""
    first = corral.run_now("reborn", flags={"ignore_term": True})
    psutil.Process(first["pid"]).kill()
    poll(lambda: corral.get("reborn")["pid"] not in (None, first["pid"]), what="a new process")
    pid = corral.wait_for("reborn", "ready")["pid"]
    assert corral.act("reborn", "stop").json()["state"] == "stopped"
    assert not psutil.pid_exists(pid)


def test_term_ignored_is_killed_after_the_grace(corral: Stack) -> None:
    pid = corral.run_now("stubborn", flags={"ignore_term": True})["pid"]
    assert corral.act("stubborn", "stop").json()["state"] == "stopped"
    assert not psutil.pid_exists(pid)


def test_children_forked_by_the_engine_die_with_it(corral: Stack) -> None:
    """llamactl 11.2-11: only the direct child was signalled."""
    ready = corral.run_now("parent", flags={"fork_children": True, "ignore_term": True})
    logs = corral.api.get("/api/v1/instances/parent/logs").text
    children = [
        int(line.split()[1]) for line in logs.splitlines() if line.split()[:1] in (["child"], ["session"], ["orphan"])
    ]
    assert len(children) == 3
    corral.act("parent", "stop")
    assert [pid for pid in (ready["pid"], *children) if psutil.pid_exists(pid)] == []


@pytest.mark.timed
def test_a_port_stolen_between_choice_and_bind_is_replaced(corral: Stack) -> None:
    made = corral.create("robbed", flags={"listen_after": 2.0})
    thief = socket.socket()
    thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        timer = threading.Thread(target=corral.act, args=("robbed", "start"))
        timer.start()
        corral.wait_for("robbed", "starting")
        poll(lambda: corral.get("robbed")["pid"], what="a process")
        thief.bind(("127.0.0.1", made["port"]))
        thief.listen()
        timer.join()
        ready = corral.wait_for("robbed", "ready")
    finally:
        thief.close()
    assert ready["port"] != made["port"]
    assert corral.chat("robbed").status_code == 200


def test_a_port_held_before_the_start_is_avoided(corral: Stack) -> None:
    """llamactl 11.2-35: the port table ignored the operating system."""
    made = corral.create("polite")
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", made["port"]))
        holder.listen()
        corral.act("polite", "start")
        assert corral.wait_for("polite", "ready")["port"] != made["port"]


def test_requests_during_a_restart_wait_for_the_new_process(corral: Stack) -> None:
    corral.run_now("cycled", flags={"ready_after": 0.5})
    with ThreadPoolExecutor(9) as pool:
        restart = pool.submit(corral.act, "cycled", "restart")
        answers = [pool.submit(corral.chat, "cycled") for _ in range(8)]
        assert {answer.result().status_code for answer in answers} == {200}
        assert restart.result().status_code == 200
