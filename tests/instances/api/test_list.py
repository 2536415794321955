"""GET /api/v1/instances and /api/v1/instances/{name}."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group

from accounts.enums import KeyKind, PermissionMode, Role
from accounts.models import ApiKey, User
from instances.enums import State
from instances.models import InstanceShare, KeyPermission
from tests.conftest import ApiClient
from tests.factories import make_instance, make_key, make_node, make_ready, make_user


def names(response: Any) -> list[str]:
    assert response.status_code == 200, response.content
    return [instance["name"] for instance in response.json()]


def test_an_empty_list_is_an_empty_array(api: ApiClient) -> None:
    """llamactl 11.2-39: lists without entries were null."""
    assert api("GET", "instances").content == b"[]\n"


def test_the_list_is_a_plain_array_sorted_by_name(api: ApiClient) -> None:
    """llamactl 11.2-38: lists came in random order."""
    for name in ("zeta", "Alpha", "beta"):
        make_instance(name)

    assert names(api("GET", "instances")) == ["Alpha", "beta", "zeta"]


def test_a_running_instance_shows_its_process(api: ApiClient) -> None:
    make_ready("alpha")

    (shown,) = api("GET", "instances").json()

    assert (shown["status"], shown["status_code"], shown["state"]) == ("running", 1, "ready")
    assert (shown["pid"], shown["ready"], shown["queued"]) == (4711, True, False)


def test_an_instance_that_waits_for_room_is_queued(api: ApiClient) -> None:
    make_instance("alpha", desired_state="running", reason="Waiting for room.")

    shown = api("GET", "instances/alpha").json()

    assert (shown["status"], shown["queued"], shown["reason"]) == ("stopped", True, "Waiting for room.")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("status=running", ["ready"]),
        ("status=stopped,failed", ["failed", "other", "stopped"]),
        ("state=ready", ["ready"]),
        ("backend=mlx", ["other"]),
        ("backend=llama-cpp&state=failed", ["failed"]),
        ("backend=mlx_lm,llama_cpp", ["failed", "other", "ready", "stopped"]),
        ("node=gpu2", ["other"]),
        ("owner=mia", ["stopped"]),
        ("group=big", ["ready"]),
        ("group=big&node=gpu2", []),
        ("owner=nobody", []),
        ("node=%00", []),
        ("status=", ["failed", "other", "ready", "stopped"]),
    ],
)
def test_filters_choose(api: ApiClient, member: User, query: str, found: list[str]) -> None:
    make_ready("ready", group="big")
    make_instance("failed", state=State.FAILED)
    make_instance("stopped", owner=member)
    make_instance("other", backend_type="mlx_lm", node=make_node("gpu2"))

    assert names(api("GET", f"instances?{query}")) == found


@pytest.mark.parametrize("query", ["status=runing", "state=x", "backend=x", "limit=-1", "limit=x", "offset=1.5"])
def test_a_wrong_filter_is_400_and_says_what_there_is(api: ApiClient, query: str) -> None:
    response = api("GET", f"instances?{query}")

    assert response.status_code == 400
    assert response.json()["error"] == "invalid_parameter"


def test_pages_leave_the_list_plain_and_link_to_each_other(api: ApiClient) -> None:
    for letter in "abcde":
        make_instance(letter)

    response = api("GET", "instances?limit=2&offset=2&node=main&api_key=hush")

    assert names(response) == ["c", "d"]
    assert response.headers["X-Total-Count"] == "5"
    links = response.headers["Link"]
    assert '</api/v1/instances?limit=2&offset=4&node=main>; rel="next"' in links
    assert '</api/v1/instances?limit=2&offset=0&node=main>; rel="prev"' in links
    assert "hush" not in links
    assert "X-Total-Count" not in api("GET", "instances").headers
    assert names(api("GET", "instances?offset=99999999999999999999999")) == []


@pytest.mark.parametrize("path", ["instances", "instances?limit=10"])
@pytest.mark.parametrize("role", [Role.ADMIN, Role.MEMBER])
def test_the_number_of_queries_does_not_grow_with_the_list(
    db: None, django_assert_num_queries: Any, role: Role, path: str
) -> None:
    user = make_user("lea", role)
    api = ApiClient(make_key(user))
    api("GET", "version")  # notes the key's use, which happens once a minute
    expected = 3 + (1 if role == Role.MEMBER else 0) + (1 if "limit" in path else 0)
    for count in (1, 3):
        for number in range(count):
            instance = make_ready(f"i{count}{number}", owner=make_user(f"u{count}{number}"))
            InstanceShare.objects.create(instance=instance, user=user)
        with django_assert_num_queries(expected):
            api("GET", path)


def test_a_member_sees_what_is_owned_or_shared_with_them_or_their_team(
    member: User, api_of: Callable[[User], ApiClient]
) -> None:
    team = Group.objects.create(name="team")
    member.groups.add(team)
    make_instance("own", owner=member)
    make_instance("foreign")
    InstanceShare.objects.create(instance=make_instance("shared"), user=member)
    InstanceShare.objects.create(instance=make_instance("teams"), group=team, level="operate")

    assert names(api_of(member)("GET", "instances")) == ["own", "shared", "teams"]
    assert api_of(member)("GET", "instances/foreign").json() == {
        "error": "invalid_instance",
        "details": "instance with name foreign not found",
    }


def test_a_key_for_chosen_instances_opens_only_these(admin: User) -> None:
    plain = make_key(admin, KeyKind.MANAGEMENT, PermissionMode.PER_INSTANCE)
    KeyPermission.objects.create(api_key=ApiKey.objects.get(), instance=make_instance("chosen"))
    make_instance("other")
    api = ApiClient(plain)

    assert names(api("GET", "instances")) == ["chosen"]
    assert api("GET", "instances/other").status_code == 404
    assert api("POST", "instances/new", {"backend_type": "llama_cpp"}).status_code == 403
