"""POST /api/v1/instances/{name}."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings

from accounts.models import User
from instances.enums import DesiredState, State
from instances.models import Instance, InstanceEvent, Node
from tests.conftest import ApiClient
from tests.factories import make_instance, make_node


def body(**options: object) -> dict[str, object]:
    return {"backend_type": "llama_cpp", "backend_options": {"model": "/m/a.gguf"}, **options}


def test_the_answer_has_llamactls_fields_in_its_order_with_defaults_filled_in(api: ApiClient) -> None:
    response = api("POST", "instances/alpha?start=false", body(environment={"A": "1"}, group="big"))

    assert response.status_code == 201
    assert response.content.endswith(b"}\n")
    shown = response.json()
    assert list(shown)[:5] == ["id", "name", "status", "created", "options"]
    assert shown["status"] == "stopped"
    assert shown["status_code"] == 0
    assert shown["options"] == {
        "nodes": ["main"],
        "backend_type": "llama_cpp",
        "backend_options": {"model": "/m/a.gguf", "port": shown["port"]},
        "auto_restart": True,
        "max_restarts": 3,
        "restart_delay": 5,
        "on_demand_start": True,
        "idle_timeout": 30,
        "environment": {"A": "1"},
        "group": "big",
        "pinned": False,
        "disabled": False,
    }
    assert list(shown["options"])[:4] == ["nodes", "backend_type", "backend_options", "auto_restart"]
    assert shown["owner"] == "ada"
    assert shown["warnings"] == []
    assert [event.kind for event in InstanceEvent.objects.all()] == ["created"]


def test_without_a_worker_the_instance_is_made_stopped_with_a_warning_and_no_wish_left(api: ApiClient) -> None:
    shown = api("POST", "instances/alpha", body()).json()

    assert shown["status"] == "stopped"
    assert "created but not started" in shown["warnings"][0]
    assert Instance.objects.get().desired_state == DesiredState.STOPPED


def test_the_setting_start_on_create_is_overruled_by_the_query(api: ApiClient, change_settings: Any) -> None:
    change_settings(start_on_create=False)

    assert api("POST", "instances/alpha", body()).json()["warnings"] == []
    assert api("POST", "instances/beta?start=true", body()).json()["warnings"] != []
    assert api("POST", "instances/gamma?start=maybe", body()).json()["error"] == "invalid_parameter"
    assert not Instance.objects.filter(name="gamma").exists()


def test_a_duplicate_name_is_409_with_llamactls_code_and_text(api: ApiClient) -> None:
    make_instance("alpha")

    response = api("POST", "instances/alpha", body())

    assert response.status_code == 409
    assert response.json()["error"] == "create_failed"
    assert response.json()["details"] == "Failed to create instance: instance with name alpha already exists"


@pytest.mark.parametrize(("limit", "status"), [(-1, 201), (0, 409), (1, 409), (2, 201)])
def test_max_instances_limits_creation(api: ApiClient, change_settings: Any, limit: int, status: int) -> None:
    make_instance("alpha")
    change_settings(max_instances=limit)

    response = api("POST", "instances/beta?start=false", body())

    assert response.status_code == status
    if status == 409:
        assert response.json()["error"] == "create_failed"
        assert response.json()["details"] == (
            f"Failed to create instance: maximum number of instances ({limit}) reached"
        )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a b", "name contains invalid characters (only alphanumeric, periods, hyphens, underscores allowed)"),
        ("ä", "name contains invalid characters (only alphanumeric, periods, hyphens, underscores allowed)"),
        ("a%00b", "name contains invalid characters (only alphanumeric, periods, hyphens, underscores allowed)"),
        ("x" * 51, "name too long (max 50 characters)"),
        ("%2e%2e", "name cannot be '..', which means a folder"),
        ("%2e", "name cannot be '.', which means a folder"),
    ],
)
def test_a_bad_name_is_400_and_dots_are_refused_too(api: ApiClient, name: str, text: str) -> None:
    """llamactl 11.2-19: names ``.`` and ``..`` were accepted and wrote outside of their folder."""
    for method in ("GET", "POST", "PUT", "DELETE"):
        response = api(method, f"instances/{name}", body())
        assert response.status_code == 400
        assert response.json()["error"] == "invalid_instance_name"
        assert response.json()["details"] == text


def test_faults_in_options_are_told_all_at_once_with_the_names_of_the_fields(api: ApiClient) -> None:
    """llamactl 11.2-37: validation messages were hidden behind "Invalid request body", or silently corrected."""
    response = api(
        "POST",
        "instances/alpha",
        body(idle_timeout="soon", group="a b", environment={"A": 1}, backend_options={"gpu_layers": "many"}),
    )

    assert response.status_code == 400
    answer = response.json()
    assert answer["error"] == "invalid_request"
    assert answer["details"].startswith("Invalid request body: ")
    assert set(answer["fields"]) == {"idle_timeout", "group", "environment", "backend_options.gpu_layers"}
    assert all(text in answer["details"] for text in answer["fields"].values())
    assert not Instance.objects.exists()


def test_negative_numbers_are_clamped_with_a_warning(api: ApiClient) -> None:
    shown = api("POST", "instances/a?start=false", body(max_restarts=-1, restart_delay=-5, idle_timeout=-2)).json()

    assert [shown["options"][name] for name in ("max_restarts", "restart_delay", "idle_timeout")] == [0, 0, 0]
    assert len(shown["warnings"]) == 3


def test_zero_and_false_are_kept(api: ApiClient) -> None:
    """llamactl 11.2-23: zero values were lost."""
    options = {"gpu_layers": 0, "temp": 0, "seed": 0}
    shown = api("POST", "instances/a?start=false", body(backend_options=options, auto_restart=False)).json()

    assert options.items() <= shown["options"]["backend_options"].items()
    assert shown["options"]["auto_restart"] is False


def test_the_oldest_clients_key_for_engine_options_is_understood(api: ApiClient) -> None:
    shown = api("POST", "instances/a?start=false", {"llama_server_options": {"ctx_size": 512}}).json()

    assert shown["options"]["backend_type"] == "llama_cpp"
    assert shown["options"]["backend_options"]["ctx_size"] == 512


def test_an_unknown_option_is_told_with_a_guess(api: ApiClient) -> None:
    shown = api("POST", "instances/a?start=false", body(idle_timeuot=3)).json()

    assert shown["warnings"] == ['"idle_timeuot" is not an option and was ignored. Did you mean idle_timeout?']


@pytest.mark.parametrize(
    ("port", "status", "code", "details"),
    [
        (70000, 400, "invalid_request", "Invalid request body: invalid port range: 70000"),
        (-1, 400, "invalid_request", "Invalid request body: invalid port range: -1"),
        (9999, 409, "create_failed", "port 9999 is already in use: port 9999 is out of range [8000-9000]"),
        (8000, 409, "create_failed", "port 8000 is already in use: port 8000 is already allocated"),
        (8080, 409, "create_failed", "port 8080 is already in use: port 8080 is Corral's own"),
    ],
)
def test_a_port_that_cannot_be_had_is_told_in_llamactls_words(
    api: ApiClient, port: int, status: int, code: str, details: str
) -> None:
    """llamactl 11.2-35: the port table ignored Corral's own port; the rest are the texts of the contract."""
    make_instance("other", port=8000)

    response = api("POST", "instances/alpha", body(backend_options={"port": port}))

    assert response.status_code == status
    assert response.json()["error"] == code
    assert response.json()["details"].endswith(details)
    assert list(response.json()["fields"]) == ["backend_options.port"]


def test_an_unknown_node_is_named(api: ApiClient) -> None:
    response = api("POST", "instances/alpha", body(nodes=["zz"]))

    assert response.status_code == 400
    assert response.json()["fields"] == {"nodes": "node zz not found"}


def test_an_instance_can_be_made_on_another_node(api: ApiClient) -> None:
    make_node("gpu2")

    shown = api("POST", "instances/alpha?start=false", body(nodes=["gpu2", "gpu2"])).json()

    assert shown["node"] == "gpu2"
    assert shown["options"]["nodes"] == ["gpu2"]
    assert api("POST", "instances/b", body(nodes=["gpu2", "main"])).json()["fields"]["nodes"]


def test_the_first_instance_makes_the_row_of_this_host(api: ApiClient) -> None:
    api("POST", "instances/alpha?start=false", body())

    assert Node.objects.get().name == settings.CORRAL.node


def test_any_content_type_is_read_as_json(api: ApiClient) -> None:
    content = b'{"backend_type": "mlx_lm", "backend_options": {"model": "a/b"}}'
    for number, kind in enumerate(("application/x-www-form-urlencoded", "text/plain", "multipart/form-data", "x/y")):
        response = api("POST", f"instances/a{number}?start=false", content, content_type=kind)
        assert response.status_code == 201, response.content


@pytest.mark.parametrize("option", ["environment", "command_override"])
def test_an_operator_may_not_set_what_runs_code(
    operator: User, api_of: Callable[[User], ApiClient], option: str
) -> None:
    value: dict[str, object] = {"environment": {"LD_PRELOAD": "/x.so"}, "command_override": "/bin/sh"}

    response = api_of(operator)("POST", "instances/a", {"backend_type": "llama_cpp", option: value[option]})

    assert response.status_code == 403
    assert response.json()["error"] == "permission_denied"
    assert list(response.json()["fields"]) == [option]


def test_status_can_be_the_integer_of_the_oldest_contract(api: ApiClient) -> None:
    make_instance("alpha", state=State.BACKOFF)

    assert api("GET", "instances/alpha").json()["status"] == "restarting"
    for response in (
        api("GET", "instances/alpha?status_format=integer"),
        api("GET", "instances/alpha", headers={"X-Llamactl-Status-Format": "integer"}),
    ):
        assert response.json()["status"] == 1
        assert response.json()["status_code"] == 3
    assert api("GET", "instances/alpha?status_format=x").status_code == 400
