"""Starting on demand, making room, stopping when idle."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.system.conftest import StackFactory
from tests.system.stack import Stack, poll, texts

pytestmark = pytest.mark.any_database  # what could differ, starts at once, is in test_admission.py


@pytest.fixture
def narrow(make_corral: StackFactory) -> Stack:
    """A Corral on which one instance may run at a time."""
    return make_corral(max_running_instances="1", group_limits="big=1")


def test_a_request_starts_a_stopped_instance_and_is_answered(corral: Stack) -> None:
    corral.create("sleeping")
    assert corral.chat("sleeping").status_code == 200
    assert corral.get("sleeping")["state"] == "ready"


def test_without_on_demand_start_a_request_gets_a_clear_503(corral: Stack) -> None:
    corral.create("manual", on_demand_start=False)
    answer = corral.chat("manual")
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "instance_not_running"
    assert corral.get("manual")["state"] == "stopped"


def test_the_proxy_never_starts_anything(corral: Stack) -> None:
    corral.create("still")
    answer = corral.api.get("/api/v1/instances/still/proxy/health")
    assert (answer.status_code, answer.json()["error"]) == (503, "instance_not_running")
    assert corral.get("still")["state"] == "stopped"


def test_a_start_at_the_limit_evicts_the_least_recently_used(make_corral: StackFactory) -> None:
    corral = make_corral(max_running_instances="2")
    for name in ("old", "fresh"):
        corral.run_now(name)
    corral.chat("old")
    corral.chat("fresh")
    time.sleep(0.7)  # a new instance is protected for its first half second
    assert corral.run_now("newcomer")["state"] == "ready"
    assert corral.get("old")["state"] == "stopped"
    assert corral.get("fresh")["state"] == "ready"


def test_explicit_starts_obey_the_limits_and_evict_too(narrow: Stack) -> None:
    """llamactl 4.6: explicit starts ignored the limits; issue 174: they did not evict."""
    narrow.run_now("a")
    narrow.create("b")
    assert narrow.act("b", "start").status_code == 200
    narrow.wait_for("b", "ready")
    assert narrow.get("a")["state"] == "stopped"


def test_an_explicit_start_by_a_key_that_may_not_evict_is_refused_and_evicts_nothing(narrow: Stack) -> None:
    narrow.run_now("a")
    narrow.create("b")
    wanted = {"name": "k", "kind": "management", "permission_mode": "allow_all", "can_evict": False}
    key = narrow.api.post("/api/v1/auth/keys", json=wanted).json()["key"]
    own = {"headers": {"Authorization": f"Bearer {key}"}}
    answer = narrow.api.post("/api/v1/instances/b/start", **own)
    assert (answer.status_code, answer.json()["error"]) == (409, "max_instances_reached")
    assert "may not push out another instance" in answer.json()["details"]
    assert narrow.get("a")["state"] == "ready"
    assert narrow.api.post("/api/v1/instances/a/restart", **own).status_code == 200
    assert narrow.act("b", "start").status_code == 200
    narrow.wait_for("b", "ready")


def test_pinned_instances_are_not_evicted_and_the_refusal_says_so(narrow: Stack) -> None:
    narrow.run_now("anchor", pinned=True)
    narrow.create("hopeful")
    answer = narrow.act("hopeful", "start")
    assert (answer.status_code, answer.json()["error"]) == (409, "max_instances_reached")
    assert "pinned" in answer.json()["details"]
    refused = narrow.chat("hopeful")
    assert refused.status_code == 409
    assert "Retry-After" in refused.headers
    assert narrow.get("anchor")["state"] == "ready"


def test_a_group_limit_concerns_its_group_only(make_corral: StackFactory) -> None:
    corral = make_corral(group_limits="big=1")
    corral.run_now("big-one", group="big")
    corral.run_now("free")
    corral.run_now("big-two", group="big")
    assert corral.get("big-one")["state"] == "stopped"
    assert corral.get("free")["state"] == "ready"


def test_a_swap_never_cuts_off_a_stream(make_corral: StackFactory) -> None:
    """llamactl 11.2-9: instances with requests in flight were evicted after 30 s; here the drain time is 1 s."""
    narrow = make_corral(max_running_instances="1", drain_timeout="1")
    narrow.run_now("busy", flags={"stream_tokens": 60, "every": 0.1})
    narrow.create("next")
    with narrow.stream("busy", max_tokens=60) as lines, ThreadPoolExecutor(1) as pool:
        next(lines)
        waiting = pool.submit(narrow.chat, "next")
        pieces = texts(lines)
        assert waiting.result(timeout=60).status_code == 200
    assert pieces[-1] == "[DONE]"
    assert len(pieces) >= 59
    assert narrow.get("busy")["state"] == "stopped"


def test_two_models_that_swap_under_load_lose_no_request(narrow: Stack) -> None:
    narrow.create("left", flags={"stream_tokens": 2})
    narrow.create("right", flags={"stream_tokens": 2})
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: narrow.chat(("left", "right")[number % 2]), range(24)))
    assert [answer.status_code for answer in answers] == [200] * 24, [a.text for a in answers if a.status_code != 200]


def test_a_limit_of_zero_refuses_every_start(make_corral: StackFactory) -> None:
    corral = make_corral(max_running_instances="0")
    corral.create("never")
    answer = corral.act("never", "start")
    assert (answer.status_code, answer.json()["error"]) == (409, "max_instances_reached")


def test_switching_eviction_off_still_starts_below_the_limit(make_corral: StackFactory) -> None:
    """llamactl 11.2-3: with eviction off nothing was started on demand."""
    corral = make_corral(max_running_instances="1", enable_lru_eviction="false")
    corral.create("first")
    assert corral.chat("first").status_code == 200
    corral.create("second")
    assert corral.chat("second").status_code == 409


def test_the_number_of_instances_is_limited(make_corral: StackFactory) -> None:
    corral = make_corral(max_instances="1")
    corral.create("only")
    answer = corral.api.post("/api/v1/instances/more", json={"backend_type": "llama_cpp"})
    assert answer.status_code == 409
    assert "maximum number of instances (1) reached" in answer.json()["details"]


@pytest.mark.timed
def test_the_queue_is_bounded(make_corral: StackFactory) -> None:
    corral = make_corral(queue_limit="2")
    corral.create("loading", flags={"ready_after": 3})
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: corral.chat("loading"), range(6)))
    codes = sorted(answer.status_code for answer in answers)
    assert codes == [200, 200, 429, 429, 429, 429]
    assert all("Retry-After" in answer.headers for answer in answers if answer.status_code == 429)


def test_a_request_gives_up_after_the_timeout_and_the_start_is_not_lost(make_corral: StackFactory) -> None:
    corral = make_corral(on_demand_start_timeout="1")
    corral.create("slow", flags={"ready_after": 3})
    answer = corral.chat("slow")
    assert answer.status_code == 503
    assert "Retry-After" in answer.headers
    corral.wait_for("slow", "ready")


def test_an_idle_instance_stops_and_one_that_is_only_watched_counts_as_idle(corral: Stack) -> None:
    """llamactl 11.2-10: health polling kept instances awake."""
    corral.run_now("quiet", ttl=2)
    deadline = time.monotonic() + 60
    while corral.get("quiet")["state"] == "ready" and time.monotonic() < deadline:
        corral.api.get("/api/v1/instances/quiet/proxy/health")
        time.sleep(0.05)
    stopped = corral.wait_for("quiet", "stopped")
    assert "No request for 2 s" in stopped["reason"]
    assert corral.chat("quiet").status_code == 200


def test_limits_hold_at_boot(make_corral: StackFactory) -> None:
    """llamactl 11.2-8: starts at boot ignored the limits."""
    import signal

    corral = make_corral(max_running_instances="2")
    for name in ("one", "two"):
        corral.run_now(name)
    corral.down(signal.SIGINT)
    corral.environment["CORRAL_MAX_RUNNING_INSTANCES"] = "1"
    corral.environment["CORRAL_ENABLE_LRU_EVICTION"] = "false"
    corral.up()
    poll(
        lambda: sorted(corral.get(name)["state"] for name in ("one", "two")) == ["ready", "stopped"],
        what="one of two runs",
    )
