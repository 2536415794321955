"""Who may call what: every endpoint for each kind of caller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from accounts.enums import KeyKind, Role
from accounts.models import User
from instances.models import Instance, InstanceShare
from tests.conftest import ApiClient
from tests.factories import make_instance, make_key, make_user

BODY = {"backend_type": "llama_cpp", "backend_options": {}}
COMMAND = {"command": "llama-server -m a.gguf"}
# method, path, body, then the status for: administrator, operator and owner, member with a "use" share, another
# operator, another member. The node is away, so who may start gets 503.
Endpoint = tuple[str, str, object, tuple[int, int, int, int, int]]
ENDPOINTS: list[Endpoint] = [
    ("GET", "version", None, (200, 200, 200, 200, 200)),
    ("GET", "config", None, (200, 200, 403, 200, 403)),
    ("GET", "server/help", None, (503, 503, 403, 503, 403)),
    ("GET", "server/version", None, (503, 503, 403, 503, 403)),
    ("GET", "server/devices", None, (503, 503, 403, 503, 403)),
    ("GET", "backends/llama-cpp/help", None, (503, 503, 403, 503, 403)),
    ("GET", "backends/llama-cpp/version", None, (503, 503, 403, 503, 403)),
    ("GET", "backends/llama-cpp/devices", None, (503, 503, 403, 503, 403)),
    ("GET", "backends/vllm/version", None, (503, 503, 403, 503, 403)),
    ("GET", "backends/mlx/help", None, (503, 503, 403, 503, 403)),
    ("POST", "backends/llama-cpp/parse-command", COMMAND, (200, 200, 200, 200, 200)),
    ("POST", "backends/mlx/parse-command", COMMAND, (200, 200, 200, 200, 200)),
    ("POST", "backends/vllm/parse-command", COMMAND, (200, 200, 200, 200, 200)),
    ("GET", "instances", None, (200, 200, 200, 200, 200)),
    ("POST", "instances/beta", BODY, (201, 201, 403, 201, 403)),
    ("GET", "instances/alpha", None, (200, 200, 200, 200, 404)),
    ("PUT", "instances/alpha", BODY, (200, 200, 403, 403, 404)),
    ("PATCH", "instances/alpha", {"group": "big"}, (200, 200, 403, 403, 404)),
    ("DELETE", "instances/alpha", None, (204, 204, 403, 403, 404)),
    ("POST", "instances/alpha/start", None, (503, 503, 403, 503, 404)),
    ("POST", "instances/alpha/stop", None, (200, 200, 403, 200, 404)),
    ("POST", "instances/alpha/restart", None, (503, 503, 403, 503, 404)),
    ("GET", "instances/alpha/logs", None, (200, 200, 403, 200, 404)),
    ("GET", "instances/alpha/events", None, (200, 200, 200, 200, 404)),
]
IDS = [f"{endpoint[0]} {endpoint[1]}" for endpoint in ENDPOINTS]
CALLERS = ["ada", "olga", "mia", "otto", "max"]


@pytest.fixture
def people(admin: User, operator: User, member: User) -> dict[str, User]:
    instance = make_instance("alpha", owner=operator)
    InstanceShare.objects.create(instance=instance, user=member, level="use")
    strangers = [make_user("otto", Role.OPERATOR), make_user("max")]
    return {user.username: user for user in (admin, operator, member, *strangers)}


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=IDS)
def test_each_caller_gets_what_their_role_and_shares_allow(
    people: dict[str, User], caller: str, endpoint: Endpoint
) -> None:
    method, path, body, statuses = endpoint

    response = ApiClient(make_key(people[caller]))(method, path, body)

    assert response.status_code == statuses[CALLERS.index(caller)], response.content
    if response.status_code >= 400:
        assert set(response.json()) <= {"error", "details", "fields"}
        assert response.content.endswith(b"}\n")


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=IDS)
def test_without_a_key_or_with_an_inference_key_nothing_is_let_in(people: dict[str, User], endpoint: Endpoint) -> None:
    method, path, body, _ = endpoint

    anonymous = ApiClient()(method, path, body)
    inference = ApiClient(make_key(people["ada"], KeyKind.INFERENCE))(method, path, body)

    assert anonymous.status_code == inference.status_code == 401
    assert anonymous.content == b'{"error": {"message": "Missing API key", "type": "authentication_error"}}'
    assert inference.content == b'{"error": {"message": "Invalid API key", "type": "authentication_error"}}'


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=IDS)
def test_a_slash_at_the_end_changes_nothing_and_is_never_redirected(
    people: dict[str, User], endpoint: Endpoint
) -> None:
    method, path, body, statuses = endpoint

    assert ApiClient(make_key(people["ada"]))(method, f"{path}/", body).status_code == statuses[0]


@pytest.mark.parametrize("path", sorted({endpoint[1] for endpoint in ENDPOINTS}))
def test_a_wrong_method_is_a_405_that_names_the_right_ones(people: dict[str, User], path: str) -> None:
    allowed = {endpoint[0] for endpoint in ENDPOINTS if endpoint[1] == path}
    wrong = "PROPFIND" if path in ("instances/alpha", "instances/beta") else "DELETE"

    response = ApiClient(make_key(people["ada"]))(wrong, path)

    assert response.status_code == 405
    assert response.json()["error"] == "method_not_allowed"
    assert allowed <= {method.strip() for method in response.headers["Allow"].split(",")}


def test_management_without_authentication_is_full_rights_for_everybody(
    people: dict[str, User], change_settings: Any
) -> None:
    change_settings(require_management_auth=False)

    assert ApiClient()("PATCH", "instances/alpha", {"environment": {"A": "1"}}).status_code == 200
    assert ApiClient("not a key")("GET", "instances/alpha").status_code == 401


def test_without_authentication_another_sites_page_can_change_nothing(
    people: dict[str, User], change_settings: Any
) -> None:
    change_settings(require_management_auth=False)

    origin = {"Sec-Fetch-Site": "cross-site", "Origin": "https://there.example"}
    response = ApiClient()("DELETE", "instances/alpha", headers=origin)

    assert response.status_code == 403
    assert "Access-Control-Allow-Origin" not in response.headers
    change_settings(require_management_auth=False, allowed_origins=["https://there.example"])
    assert ApiClient()("DELETE", "instances/alpha", headers=origin).status_code == 204


def test_other_sites_pages_may_call_with_a_key_as_the_settings_say(
    people: dict[str, User], change_settings: Any
) -> None:
    client = ApiClient(make_key(people["ada"]))
    origin = {"Origin": "https://there.example"}

    assert client("GET", "instances", headers=origin).headers["Access-Control-Allow-Origin"] == "*"
    assert ApiClient()("GET", "instances", headers=origin).headers["Access-Control-Allow-Origin"] == "*"
    change_settings(allowed_origins=["https://there.example"])
    assert client("GET", "instances", headers=origin).headers["Access-Control-Allow-Origin"] == "https://there.example"
    other = client("GET", "instances", headers={"Origin": "https://elsewhere.example"})
    assert "Access-Control-Allow-Origin" not in other.headers
    assert "Origin" in other.headers["Vary"]


def test_a_preflight_is_200_and_echoes_what_it_asks_for(db: None) -> None:
    response = ApiClient()(
        "OPTIONS",
        "instances/alpha",
        headers={
            "Origin": "https://there.example",
            "Access-Control-Request-Method": "PATCH",
            "Access-Control-Request-Headers": "authorization, content-type",
        },
    )

    assert response.status_code == 200
    assert response.content == b""
    assert "PATCH" in response.headers["Access-Control-Allow-Methods"]
    assert response.headers["Access-Control-Allow-Headers"] == "authorization, content-type"
    assert response.headers["Access-Control-Max-Age"] == "300"


def test_options_needs_no_key_because_a_preflight_has_none(db: None) -> None:
    response = ApiClient()("OPTIONS", "instances/alpha")

    assert response.status_code == 204
    assert "PUT" in response.headers["Allow"]


def test_an_unknown_path_is_401_without_a_key_and_404_with_one(api: ApiClient) -> None:
    assert ApiClient()("GET", "nothing/here").status_code == 401
    for method in ("GET", "POST", "DELETE", "PROPFIND"):
        response = api(method, "nothing/here")
        assert response.status_code == 404
        assert response.json() == {"error": "not_found", "details": "There is nothing at /api/v1/nothing/here"}


def test_a_key_follows_its_owners_role_and_state_at_once(api: ApiClient, api_of: Callable[[User], ApiClient]) -> None:
    """A key never exceeds its owner: changing the owner changes the key, both ways."""
    owner, instance = make_user("ben", Role.ADMIN), make_instance("alpha")
    key, path = api_of(owner), f"users/{owner.pk}"
    statuses = [("GET", "users"), ("POST", "instances/beta?start=false"), ("GET", "instances/alpha")]

    def ask() -> list[int]:
        Instance.objects.exclude(pk=instance.pk).delete()
        return [key(method, what, {"backend_type": "llama_cpp"}).status_code for method, what in statuses]

    assert ask() == [200, 201, 200]
    for role, answers in (("operator", [403, 201, 200]), ("member", [403, 403, 404]), ("admin", [200, 201, 200])):
        assert api("PATCH", path, {"role": role}).status_code == 200
        assert ask() == answers
    assert api("PATCH", path, {"active": False}).status_code == 200
    assert ask() == [401, 401, 401]
    assert api("PATCH", path, {"active": True}).status_code == 200
    assert ask() == [200, 201, 200]
