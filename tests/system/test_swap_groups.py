"""Swap groups with real processes: who gives way to whom, in which order, and that nobody starves.

The numbers in brackets are those of llama-swap's acceptance list.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import psutil
import pytest

from tests.system.conftest import start_stack
from tests.system.stack import Stack, poll, texts

pytestmark = pytest.mark.any_database

PATIENCE_S = 1.0
GROUPS = {
    "one": {},
    "duo": {"swap": False, "exclusive": False},
    "keep": {"persistent": True, "exclusive": False},
    "left": {"exclusive": False},
    "right": {"exclusive": False},
}


@pytest.fixture(scope="module")
def swapping(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """One Corral with groups for all tests of this module."""
    settings = {"groups": json.dumps(GROUPS), "swap_patience": str(PATIENCE_S)}
    return start_stack(tmp_path_factory.mktemp("swapping"), request, **settings)


@pytest.fixture
def corral(swapping: Stack) -> Iterator[Stack]:
    """The module's Corral; instances that the test leaves behind are removed."""
    yield swapping
    for instance in swapping.api.get("/api/v1/instances").json():
        swapping.remove(instance["name"])


@contextmanager
def busy(corral: Stack, name: str) -> Iterator[Future[list[str]]]:
    """A streamed answer of the instance, under way; its pieces are the future's result."""
    begun = threading.Event()

    def stream() -> list[str]:
        with corral.stream(name) as lines:
            next(lines)
            begun.set()
            return texts(lines)

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(stream)
        assert begun.wait(60)
        yield answer


def ready(corral: Stack, *names: str) -> set[str]:
    return {name for name in names if corral.get(name)["state"] == "ready"}


def test_two_members_of_a_swap_group_run_one_after_the_other(corral: Stack) -> None:
    """[1]: A exits before B is spawned."""
    corral.run_now("a", group="one")
    corral.create("b", group="one")
    assert corral.chat("b").status_code == 200
    states = ["starting", "ready", "stopping", "stopped"]
    assert corral.story("a", "b") == [("a", state) for state in states] + [("b", state) for state in states[:2]]


def test_groups_stop_whom_they_say_and_nobody_else(corral: Stack) -> None:
    """[5]: swap off, exclusive off, persistent; W27: a target that is ready already stops nobody."""
    for name, group in (("d1", "duo"), ("d2", "duo"), ("kept", "keep"), ("free", "")):
        corral.run_now(name, group=group)
    assert ready(corral, "d1", "d2", "kept", "free") == {"d1", "d2", "kept", "free"}
    corral.run_now("a", group="one")
    assert ready(corral, "a", "d1", "d2", "kept", "free") == {"a", "kept"}
    assert corral.chat("d1").status_code == 200
    assert corral.chat("free").status_code == 200
    assert corral.chat("a").status_code == 200
    assert ready(corral, "a", "d1", "kept", "free") == {"a", "d1", "kept", "free"}
    corral.run_now("kept-too", group="keep")
    assert ready(corral, "kept", "kept-too", "a") == {"kept-too", "a"}


@pytest.mark.timed
def test_swaps_that_do_not_collide_run_in_parallel(corral: Stack) -> None:
    """[6]: disjoint groups that are not exclusive."""
    for name in ("left", "right"):
        corral.run_now(f"{name}-1", group=name)
        corral.create(f"{name}-2", group=name, flags={"ready_after": 1.5})
    before = len(corral.story("left-1", "right-1"))
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(corral.chat, ["left-2", "right-2"]))
    assert [answer.status_code for answer in answers] == [200, 200]
    story = corral.story("left-1", "left-2", "right-1", "right-2")[before:]
    assert {name for name, state in story[: story.index(("left-2", "ready"))]} >= {"right-1", "right-2"}
    assert story.index(("right-2", "starting")) < story.index(("left-2", "ready"))
    assert story.index(("left-2", "starting")) < story.index(("right-2", "ready"))


@pytest.mark.timed
def test_arrivals_a_b_a_b_are_served_a_a_b_b_with_one_further_start(corral: Stack) -> None:
    """[4]"""
    corral.run_now("a", group="one", flags={"answer_delay": 0.6})
    corral.create("b", group="one")
    time.sleep(1)  # A is not new any more
    served: list[str] = []

    def ask(name: str) -> int:
        status = corral.chat(name).status_code
        served.append(name)
        return status

    with ThreadPoolExecutor(4) as pool:
        asked = []
        for name in ("a", "b", "a", "b"):
            asked.append(pool.submit(ask, name))
            time.sleep(0.15)
        assert [answer.result() for answer in asked] == [200] * 4
    assert served == ["a", "a", "b", "b"]
    assert [state for _, state in corral.story("a", "b")].count("starting") == 2


@pytest.mark.timed
def test_steady_traffic_on_one_model_does_not_starve_another(corral: Stack) -> None:
    """llama-swap 612: as long as A was asked for, B waited."""
    corral.run_now("hot", group="one", flags={"answer_delay": 0.4})
    corral.create("cold", group="one")
    done = threading.Event()

    def ask_on() -> list[int]:
        codes = []
        while not done.is_set():
            codes.append(corral.chat("hot").status_code)
        return codes

    with ThreadPoolExecutor(4) as pool:
        steady = [pool.submit(ask_on) for _ in range(4)]
        time.sleep(1)
        asked = time.monotonic()
        answer = corral.chat("cold")
        waited = time.monotonic() - asked
        time.sleep(2)  # and the other way round: the hot one comes back
        done.set()
        codes = {code for one in steady for code in one.result()}
    assert answer.status_code == 200
    assert waited < PATIENCE_S + 10  # less than the patience when the hot one happened to be idle for a moment
    assert codes == {200}
    assert corral.states("hot").count("starting") == 2


@pytest.mark.timed
def test_an_idle_instance_gives_way_at_once(corral: Stack) -> None:
    corral.run_now("idle", group="one")
    corral.create("next", group="one")
    time.sleep(1)
    began = time.monotonic()
    assert corral.chat("next").status_code == 200
    assert time.monotonic() - began < 10


@pytest.mark.timed
def test_who_waited_in_front_of_a_busy_instance_is_served_before_it_is_swapped_out(corral: Stack) -> None:
    corral.create("narrow", group="one", concurrency_limit=1, flags={"answer_delay": 0.9})
    corral.create("next", group="one")
    with ThreadPoolExecutor(4) as pool:
        line = [pool.submit(corral.chat, "narrow") for _ in range(3)]
        corral.wait_for("narrow", "ready")
        after = pool.submit(corral.chat, "next")
        assert [answer.result().status_code for answer in (*line, after)] == [200] * 4
    assert corral.states("narrow").count("starting") == 1


@pytest.mark.timed
def test_a_higher_priority_overtakes_in_the_queue(corral: Stack) -> None:
    """[8]"""
    corral.run_now("loaded", group="one", flags={"stream_tokens": 20, "every": 0.1})
    corral.create("low", group="one")
    corral.create("high", group="one", priority=10)
    with busy(corral, "loaded"), ThreadPoolExecutor(2) as pool:
        low = pool.submit(corral.chat, "low")
        poll(lambda: "loaded must finish" in corral.get("low")["reason"], what="low waits")
        assert corral.get("loaded")["state"] == "ready"
        high = pool.submit(corral.chat, "high")
        assert [low.result().status_code, high.result().status_code] == [200, 200]
    story = corral.story("low", "high")
    assert story.index(("high", "starting")) < story.index(("low", "starting"))


def test_a_priority_does_not_overtake_a_swap_that_is_under_way(corral: Stack) -> None:
    """[8]"""
    corral.run_now("loaded", group="one", flags={"stream_tokens": 30, "every": 0.1})
    corral.create("low", group="one")
    corral.create("high", group="one", priority=10)
    with busy(corral, "loaded") as answer, ThreadPoolExecutor(2) as pool:
        low = pool.submit(corral.chat, "low")
        corral.wait_for("loaded", "stopping")
        high = pool.submit(corral.chat, "high")
        assert [low.result().status_code, high.result().status_code] == [200, 200]
        assert answer.result()[-1] == "[DONE]"
    story = corral.story("low", "high")
    assert story.index(("low", "starting")) < story.index(("high", "starting"))


@pytest.mark.timed
def test_who_leaves_the_queue_is_not_loaded_and_nobody_stops_for_them(corral: Stack) -> None:
    """[17]"""
    corral.run_now("loaded", group="one", flags={"stream_tokens": 15, "every": 0.1})
    corral.create("wished", group="one")
    time.sleep(1)
    with busy(corral, "loaded"):
        with pytest.raises(httpx.ReadTimeout):
            corral.api.post("/v1/chat/completions", json={"model": "wished", "messages": []}, timeout=0.5)
        left = "Nobody waits for it any more."
        poll(lambda: corral.events("wished")[-1]["reason"] == left, what="the wish is taken back")
    time.sleep(0.5)
    assert corral.states("wished") == []
    assert ready(corral, "loaded") == {"loaded"}


def test_a_failed_start_does_not_bring_back_what_made_room(corral: Stack) -> None:
    corral.run_now("gone", group="one")
    corral.create("broken", group="one", auto_restart=False, flags={"crash_at_start": True})
    assert corral.chat("broken").status_code == 503
    time.sleep(0.5)
    assert [corral.get(name)["state"] for name in ("gone", "broken")] == ["stopped", "failed"]


@pytest.mark.timed
def test_a_stop_that_waits_for_a_stream_holds_up_nobody_else(corral: Stack) -> None:
    """W3: an unload blocked the whole scheduler."""
    corral.run_now("left-1", group="left", flags={"stream_tokens": 40, "every": 0.1})
    corral.create("left-2", group="left")
    corral.run_now("right-1", group="right")
    corral.create("right-2", group="right")
    with busy(corral, "left-1") as answer, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(corral.chat, "left-2")
        corral.wait_for("left-1", "stopping")
        assert corral.chat("right-2").status_code == 200
        assert corral.act("right-2", "stop").json()["state"] == "stopped"
        assert corral.get("left-1")["state"] == "stopping"
        assert answer.result()[-1] == "[DONE]"
        assert waiting.result().status_code == 200


def test_an_eviction_has_the_grace_of_every_stop(corral: Stack) -> None:
    """W4: it was the time-out of health checks, two minutes."""
    pid = corral.run_now("stubborn", group="one", flags={"ignore_term": True})["pid"]
    corral.create("next", group="one")
    time.sleep(1)
    began = time.monotonic()
    assert corral.chat("next").status_code == 200
    assert 3 <= time.monotonic() - began < 30  # CORRAL_STOP_TIMEOUT is 3 here
    assert not psutil.pid_exists(pid)


def test_a_pinned_member_stays_and_the_refusal_names_it(corral: Stack) -> None:
    corral.run_now("anchor", group="one", pinned=True)
    corral.create("hopeful", group="one")
    answer = corral.act("hopeful", "start")
    assert (answer.status_code, answer.json()["error"]) == (409, "max_instances_reached")
    assert "anchor can't run beside hopeful and is pinned" in answer.json()["details"]
    assert ready(corral, "anchor") == {"anchor"}


def test_a_disabled_member_is_not_loaded_and_stops_nobody(corral: Stack) -> None:
    corral.run_now("loaded", group="one")
    corral.create("off", group="one", disabled=True)
    assert corral.chat("off").status_code == 503
    assert ready(corral, "loaded") == {"loaded"}
