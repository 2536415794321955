"""Idleness in seconds, starts that fail or need no probe, what is loaded at the start, and the matrix.

The numbers in brackets are those of llama-swap's acceptance list. Proved elsewhere: one start for many requests [2] and
descendants that die with their engine [13] in test_races.py, a swap that waits for a stream [3] in test_limits.py, stop
commands [13] in tests/instances/shim/test_stop.py, a client that leaves during a stream [17] in
tests/gateway/test_forwarding.py.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.system.conftest import StackFactory
from tests.system.stack import FAKE_ENGINE, Stack, poll, texts

pytestmark = pytest.mark.any_database


def create_command(corral: Stack, name: str, flags: str, **options: Any) -> None:
    """Make an instance of the fake engine by its command line."""
    command = f"{sys.executable} -I -S {FAKE_ENGINE} --port ${{PORT}} {flags}"
    body = {"backend_type": "command", "auto_restart": False, "backend_options": {"command": command, **options}}
    answer = corral.api.post(f"/api/v1/instances/{name}", params={"start": "false"}, json=body)
    assert answer.status_code == 201, answer.text


@pytest.mark.timed
def test_ttl_stops_after_the_last_answer_ended_and_never_during_one(corral: Stack) -> None:
    """[15]: within a second of the time, not at the next tick; watching it is no use."""
    corral.run_now("short", ttl=2, flags={"stream_tokens": 30, "every": 0.1})
    with corral.stream("short") as lines:
        assert texts(lines)[-1] == "[DONE]"
    ended = time.monotonic()
    while corral.get("short")["state"] == "ready" and time.monotonic() - ended < 60:
        corral.api.get("/api/v1/instances/short/proxy/health")
    assert 1.9 <= time.monotonic() - ended < 3
    assert "No request for 2 s." in corral.wait_for("short", "stopped")["reason"]


@pytest.mark.timed
def test_ttl_counts_from_the_moment_an_instance_is_ready(corral: Stack) -> None:
    """llama-swap 2.9: a model that was loaded and never asked was unloaded at once."""
    corral.create("fresh", ttl=2, flags={"ready_after": 2.2})
    corral.act("fresh", "start")
    corral.wait_for("fresh", "ready")
    began = time.monotonic()
    corral.wait_for("fresh", "stopping", "stopped")
    assert time.monotonic() - began >= 1.8


def test_a_ttl_of_zero_outdoes_idle_timeout(corral: Stack) -> None:
    corral.run_now("stays", ttl=0, idle_timeout=1)
    corral.run_now("goes", ttl=1, idle_timeout=0)
    corral.wait_for("goes", "stopped")
    assert corral.get("stays")["state"] == "ready"


def test_a_request_during_a_stop_for_idleness_is_served_after_a_restart(corral: Stack) -> None:
    """[16]; llama-swap 946: a deadlock."""
    corral.run_now("returning", ttl=1, flags={"term_delay": 3})
    corral.wait_for("returning", "stopping")
    assert corral.chat("returning").status_code == 200
    assert corral.states("returning") == ["starting", "ready", "stopping", "stopped", "starting", "ready"]


def test_an_engine_that_is_never_ready_answers_after_its_time_and_is_gone(corral: Stack) -> None:
    """[10]"""
    create_command(corral, "never", "--never-ready", health_timeout=3)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(corral.chat, "never")
        pid = poll(lambda: corral.get("never")["pid"], what="a process")
        answer = asked.result(timeout=60)
    assert answer.status_code == 503
    assert "was not ready after 3 s" in answer.json()["error"]["message"]
    assert not psutil.pid_exists(pid)


def test_a_start_that_fails_answers_at_once_and_the_next_request_tries_again(corral: Stack, tmp_path: Path) -> None:
    """[11]"""
    flags = {"crash_times": 1, "crash_count_file": tmp_path / "count"}
    corral.create("second-try", auto_restart=False, flags=flags)
    began = time.monotonic()
    assert corral.chat("second-try").status_code == 503
    assert time.monotonic() - began < 30  # a request waits for two minutes otherwise
    assert corral.chat("second-try").status_code == 200


def test_without_a_health_path_an_engine_is_ready_when_it_listens(corral: Stack) -> None:
    """[12]"""
    create_command(corral, "unprobed", "--never-ready", health_path="none")
    corral.act("unprobed", "start")
    corral.wait_for("unprobed", "ready")


def test_an_engine_killed_from_outside_comes_back_with_the_next_request(corral: Stack) -> None:
    """[14]"""
    killed = corral.run_now("killed", auto_restart=False)
    psutil.Process(killed["pid"]).kill()
    corral.wait_for("killed", "failed")
    poll(lambda: "killed" not in corral.api.get("/running").text, what="the gateway has heard of it")
    assert corral.chat("killed").status_code == 200
    assert corral.get("killed")["pid"] != killed["pid"]


def test_what_shall_be_loaded_at_the_start_is_and_pushes_nothing_out(make_corral: StackFactory) -> None:
    corral = make_corral(groups='{"one": {}}', preload="second,first,nobody")
    for name in ("first", "second", "unlisted"):
        corral.create(name, group="one")
    corral.create("free", preload=True)
    corral.create("off", preload=True, disabled=True)
    corral.down()
    corral.up()
    for name in ("second", "free"):
        corral.wait_for(name, "ready")
    states = {name: corral.get(name)["state"] for name in ("first", "unlisted", "off")}
    assert states == {"first": "stopped", "unlisted": "stopped", "off": "stopped"}
    assert "may not push out" in corral.get("first")["reason"]
    assert "CORRAL_PRELOAD names nobody" in corral.said()


def test_a_matrix_swaps_as_its_sets_say(make_corral: StackFactory) -> None:
    """[7]"""
    matrix = {
        "vars": {"g": "gemma"},
        "evict_costs": {"voxtral": 50},
        "sets": {"day": "(g | qwen) & voxtral", "night": "big"},
    }
    corral = make_corral(matrix=json.dumps(matrix))
    for name in ("voxtral", "gemma"):
        corral.run_now(name)
    corral.create("qwen")
    corral.create("big")
    assert corral.chat("qwen").status_code == 200
    assert [corral.get(name)["state"] for name in ("voxtral", "gemma", "qwen")] == ["ready", "stopped", "ready"]
    assert "stopping gemma (set day: (g | qwen) & voxtral; kept: qwen, voxtral; cost 1)" in corral.said()
    assert corral.chat("big").status_code == 200
    assert [corral.get(name)["state"] for name in ("voxtral", "qwen", "big")] == ["stopped", "stopped", "ready"]
