"""PUT and PATCH /api/v1/instances/{name}."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from accounts.models import User
from instances.enums import DesiredState
from instances.models import Instance, InstanceShare, Run
from tests.conftest import ApiClient
from tests.factories import make_instance, make_ready

STORED = {
    "backend_options": {"model": "/m/a.gguf", "gpu_layers": 5, "extra_args": {"new": "1", "newer": "2"}},
    "auto_restart": False,
    "max_restarts": 1,
    "restart_delay": 1,
    "on_demand_start": False,
    "idle_timeout": 1,
    "environment": {"A": "1", "B": "2"},
}


def test_put_replaces_everything_but_port_engine_and_node(api: ApiClient) -> None:
    """llamactl 11.2-1: a PUT without a port moved the instance to a new one, and requests went to the old."""
    make_instance("alpha", options=STORED, port=8500, pinned=True)

    shown = api("PUT", "instances/alpha", {"backend_options": {"ctx_size": 1}}).json()

    assert shown["options"] == {
        "nodes": ["main"],
        "backend_type": "llama_cpp",
        "backend_options": {"ctx_size": 1, "port": 8500},
        "auto_restart": True,
        "max_restarts": 3,
        "restart_delay": 5,
        "on_demand_start": True,
        "idle_timeout": 30,
        "pinned": False,
        "disabled": False,
    }


def test_putting_back_what_get_shows_changes_nothing_and_restarts_nothing(api: ApiClient) -> None:
    make_ready("alpha", options=STORED)
    before = api("GET", "instances/alpha").json()

    after = api("PUT", "instances/alpha", before["options"]).json()

    assert after["options"] == before["options"]
    assert after["warnings"] == []
    assert Instance.objects.get().generation == 1


def test_patch_merges_and_null_removes(api: ApiClient) -> None:
    make_instance("alpha", options=STORED)

    shown = api(
        "PATCH",
        "instances/alpha",
        {
            "backend_options": {"ngl": None, "c": 99, "extra_args": {"new": None}},
            "environment": {"A": None, "C": "3"},
            "idle_timeout": None,
        },
    ).json()["options"]

    assert shown["backend_options"] == {
        "model": "/m/a.gguf",
        "ctx_size": 99,
        "port": Instance.objects.get().port,
        "extra_args": {"newer": "2"},
    }
    assert shown["environment"] == {"B": "2", "C": "3"}
    assert shown["idle_timeout"] == 30
    assert shown["max_restarts"] == 1


def test_patch_can_clear_all_extra_arguments_and_all_engine_options(api: ApiClient) -> None:
    make_instance("alpha", options=STORED)

    shown = api("PATCH", "instances/alpha", {"backend_options": {"extra_args": None}}).json()["options"]
    assert "extra_args" not in shown["backend_options"]

    shown = api("PATCH", "instances/alpha", {"backend_options": None}).json()["options"]
    assert list(shown["backend_options"]) == ["port"]


def test_another_engine_starts_without_the_old_ones_options(api: ApiClient) -> None:
    make_instance("alpha", options=STORED, port=8500)

    shown = api("PATCH", "instances/alpha", {"backend_type": "mlx_lm", "backend_options": {"model": "a/b"}}).json()[
        "options"
    ]

    assert shown["backend_type"] == "mlx_lm"
    assert shown["backend_options"] == {"model": "a/b", "port": 8500}


@pytest.mark.parametrize(
    ("change", "generation"),
    [
        ({"idle_timeout": 5}, 1),
        ({"group": "g", "pinned": True}, 1),
        ({"backend_options": {"ctx_size": 7}}, 2),
        ({"environment": {"A": "9"}}, 2),
        ({"preset_ini": "[x]\nctx-size = 1\n"}, 2),
    ],
)
def test_only_what_a_running_process_cannot_take_over_replaces_it(
    api: ApiClient, change: dict[str, object], generation: int
) -> None:
    """llamactl 11.2-18: preset edits waited for the program's restart; here they count from the next process."""
    make_ready("alpha", options=STORED)

    assert api("PATCH", "instances/alpha", change).status_code == 200

    assert Instance.objects.get().generation == generation
    assert Instance.objects.get().desired_state == DesiredState.RUNNING


def test_disabling_takes_back_the_wish_to_run(api: ApiClient) -> None:
    make_ready("alpha")

    assert api("PATCH", "instances/alpha", {"disabled": True}).json()["options"]["disabled"] is True
    assert Instance.objects.get().desired_state == DesiredState.STOPPED
    response = api("POST", "instances/alpha/start")
    assert response.status_code == 409
    assert response.json()["error"] == "instance_disabled"


def test_a_new_port_must_be_free_and_says_so_in_llamactls_words(api: ApiClient) -> None:
    make_instance("other", port=8001)
    make_instance("alpha", port=8002)

    response = api("PUT", "instances/alpha", {"backend_options": {"port": 8001}})

    assert response.status_code == 409
    assert response.json()["error"] == "update_failed"
    assert response.json()["details"] == (
        "Failed to update instance: failed to allocate port 8001: port 8001 is already allocated"
    )
    assert api("PATCH", "instances/alpha", {"backend_options": {"port": 8003}}).json()["port"] == 8003


def test_a_port_that_another_instances_process_still_holds_is_not_given_away(api: ApiClient) -> None:
    """llamactl 11.2-1: after a change of port, requests for one instance reached another that got the old port."""
    moved = make_ready("moved", port=8001)
    Instance.objects.filter(pk=moved.pk).update(port=8005)
    make_instance("alpha", port=8002)

    assert api("PATCH", "instances/alpha", {"backend_options": {"port": 8001}}).status_code == 409
    assert Run.objects.get().port == 8001


def test_the_node_of_an_instance_stays(api: ApiClient) -> None:
    make_instance("alpha")

    shown = api("PUT", "instances/alpha", {"nodes": ["elsewhere"]}).json()

    assert shown["node"] == "main"
    assert shown["warnings"] == ["nodes was ignored: alpha stays on main."]


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize("body", [[], "x", 1, None, {"backend_type": "x"}, {"backend_options": []}])
def test_wrong_bodies_are_400_and_change_nothing(api: ApiClient, method: str, body: object) -> None:
    make_instance("alpha", options=STORED)

    response = api(method, "instances/alpha", b"null" if body is None else body)

    assert response.status_code == 400
    assert response.json()["details"].startswith("Invalid request body: ")
    assert Instance.objects.get().options == STORED


def test_an_owner_without_admin_rights_keeps_what_an_administrator_granted(
    operator: User, api_of: Callable[[User], ApiClient]
) -> None:
    make_instance("alpha", owner=operator, options=STORED)
    api = api_of(operator)

    kept = api("PUT", "instances/alpha", api("GET", "instances/alpha").json()["options"])
    assert kept.status_code == 200, kept.content
    changed = api("PATCH", "instances/alpha", {"environment": {"A": "other"}})
    assert changed.status_code == 403
    assert "environment" in changed.json()["fields"]


def test_who_may_only_use_an_instance_sees_no_secrets(
    operator: User, member: User, api_of: Callable[[User], ApiClient]
) -> None:
    options: dict[str, Any] = {**STORED, "backend_options": {"api_key": "hush", "model": "/m/a.gguf"}}
    instance = make_instance("alpha", owner=operator, options=options)
    InstanceShare.objects.create(instance=instance, user=member, level="use")

    shown = api_of(member)("GET", "instances/alpha")

    assert shown.json()["options"]["backend_options"]["model"] == "/m/a.gguf"
    assert "hush" not in shown.content.decode()
    assert set(shown.json()["options"]["environment"].values()) == {"********"}
    assert "hush" in api_of(operator)("GET", "instances/alpha").content.decode()
