"""The limits hold whatever is asked for, and however much of it at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter

from tests.system.conftest import StackFactory
from tests.system.stack import Stack, poll

ACTIVE = ("starting", "ready", "stopping")


def most_at_once(corral: Stack, *names: str) -> int:
    """Return how many of the instances had a process at the same time, by the story of their states."""
    told = [(event["id"], name, event) for name in names for event in corral.events(name)]
    active: set[str] = set()
    most = 0
    for _, name, event in sorted(told, key=itemgetter(0)):
        if event["kind"] == "transition":
            (active.add if event["to_state"] in ACTIVE else active.discard)(name)
            most = max(most, len(active))
    return most


def test_starts_of_every_kind_at_once_never_exceed_a_limit(make_corral: StackFactory) -> None:
    """llamactl 11.2-8: explicit starts and restarts ignored the limits, and races exceeded them."""
    corral = make_corral(max_running_instances="2", group_limits="big=1")
    names = [f"model-{number}" for number in range(6)]
    for number, name in enumerate(names):
        corral.create(name, group="big" if number < 3 else "", flags={"ready_after": 0.2})
    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(corral.act, name, action) for name in names for action in ("start", "restart")]
        asked += [pool.submit(corral.chat, name) for name in names]
        codes = {answer.result().status_code for answer in asked}
    assert codes <= {200, 409, 503}
    assert most_at_once(corral, *names) == 2
    assert most_at_once(corral, *names[:3]) == 1


def test_a_restart_of_a_stopped_instance_is_a_start_that_the_limit_concerns(make_corral: StackFactory) -> None:
    """llamactl 11.2-8: a restart ignored the limits."""
    corral = make_corral(max_running_instances="1", enable_lru_eviction="false")
    corral.run_now("first")
    corral.create("second")
    answer = corral.act("second", "restart")
    assert (answer.status_code, answer.json()["error"]) == (409, "max_instances_reached")
    assert corral.get("second")["state"] == "stopped"


def test_new_options_that_restart_an_instance_into_a_full_group_start_nothing(make_corral: StackFactory) -> None:
    """llamactl 11.2-8: an update started the instance again without a look at the limits."""
    corral = make_corral(group_limits="big=1", enable_lru_eviction="false")
    corral.run_now("first", group="big")
    corral.run_now("joining")
    change = {"group": "big", "backend_options": {"ctx_size": 512}}
    assert corral.api.patch("/api/v1/instances/joining", json=change).status_code == 200
    stopped = corral.wait_for("joining", "stopped")
    poll(lambda: "big" in corral.get("joining")["reason"], what=f"the refusal; it was {stopped}")
    assert corral.states("joining") == ["starting", "ready", "stopping", "stopped"]
    assert corral.get("first")["state"] == "ready"


def test_an_instance_whose_port_left_the_range_stays_and_gets_another(make_corral: StackFactory) -> None:
    """llamactl 11.2-20: it vanished when the range was changed."""
    corral = make_corral()
    first, _, last = corral.environment["CORRAL_PORT_RANGE"].partition("-")
    moved = corral.run_now("moved")
    chosen = corral.run_now("chosen", backend_options={"port": int(first) + 7})
    corral.down()
    corral.environment["CORRAL_PORT_RANGE"] = f"{int(first) + 50}-{last}"
    corral.up()
    corral.wait_for("moved", "ready")
    corral.wait_for("chosen", "ready")
    assert moved["port"] < int(first) + 50 <= corral.get("moved")["port"] <= int(last)
    assert corral.get("chosen")["port"] == chosen["port"]
    assert [corral.chat(name).status_code for name in ("moved", "chosen")] == [200, 200]
