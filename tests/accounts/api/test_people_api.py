"""People, teams and invitations over the management API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from accounts.enums import Role
from accounts.models import User
from tests.conftest import ApiClient
from tests.factories import make_instance, make_user

pytestmark = pytest.mark.django_db
PASSWORD = "a long enough password"


def test_an_administrator_makes_changes_and_deletes_people(api: ApiClient, admin: User) -> None:
    team = api("POST", "teams", {"name": "red"}).json()
    made = api("POST", "users", {"username": "eve", "password": PASSWORD, "role": "operator", "teams": [team["id"]]})
    assert made.status_code == 201
    eve = made.json()
    assert (eve["role"], eve["teams"], eve["active"], eve["last_sign_in"]) == ("operator", ["red"], True, None)
    assert api("GET", "users").json()[1] == eve
    assert api("GET", "users?limit=1").headers["X-Total-Count"] == "2"
    assert api("GET", f"users/{eve['id']}").json() == eve
    changed = api("PATCH", f"users/{eve['id']}", {"role": "member", "active": False, "email": "eve@example.org"}).json()
    assert (changed["role"], changed["active"], changed["email"]) == ("member", False, "eve@example.org")
    make_instance("alpha", owner=User.objects.get(username="eve"))
    assert api("DELETE", f"users/{eve['id']}?heir=nobody").status_code == 400
    assert api("DELETE", f"users/{eve['id']}?heir=ada").status_code == 204
    assert api("GET", "instances/alpha").json()["owner"] == "ada"


def test_a_change_that_is_refused_in_part_changes_nothing(api: ApiClient, member: User) -> None:
    answer = api("PATCH", f"users/{member.pk}", {"role": "operator", "password": "short"})
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"
    assert "too short" in answer.json()["fields"]["password"]
    member.refresh_from_db()
    assert member.role == Role.MEMBER


def test_the_last_administrator_stays(api: ApiClient, admin: User) -> None:
    answer = api("PATCH", f"users/{admin.pk}", {"role": "member"})
    assert (answer.status_code, answer.json()["error"]) == (409, "last_administrator")
    assert api("PATCH", f"users/{admin.pk}", {"active": False}).status_code == 403
    assert api("DELETE", f"users/{admin.pk}").status_code == 403


@pytest.mark.parametrize(
    ("path", "body", "sentence"),
    [
        ("users", {}, "username: "),
        ("users", {"username": "a b", "password": PASSWORD}, "username: "),
        ("users", {"username": "ADA", "password": PASSWORD}, "username: "),
        ("users", {"username": "eve", "password": "x"}, "password: "),
        ("users", {"username": "eve", "role": "god"}, "role: "),
        ("users", {"username": "eve", "is_superuser": True}, "is_superuser: there is no such field"),
        ("users", {"username": "eve", "email": "x"}, "email: "),
        ("users", {"username": "eve", "teams": [2**70]}, "teams: "),
        ("users", [], "object"),
        ("users", b"{", "Invalid request body"),
        ("teams", {"name": ""}, "name: "),
        ("teams", {"name": "a\nb"}, "name: "),
        ("teams", {"name": {"a": 1}}, "name: "),
        ("invitations", {"days": 0}, "days: "),
        ("invitations", {"team": "x"}, "team: "),
    ],
)
def test_what_will_not_do_is_named(api: ApiClient, path: str, body: Any, sentence: str) -> None:
    answer = api("POST", path, body)
    assert answer.status_code == 400
    assert sentence in answer.json()["details"]
    assert User.objects.count() == 1


@pytest.mark.parametrize("role", [Role.MEMBER, Role.OPERATOR])
def test_others_see_and_change_nobody(admin: User, api_of: Callable[[User], ApiClient], role: Role) -> None:
    api = api_of(make_user("eve", role))
    for method, path in (
        ("GET", "users"), ("POST", "users"), ("GET", f"users/{admin.pk}"), ("PATCH", f"users/{admin.pk}"),
        ("DELETE", f"users/{admin.pk}"),
    ):  # fmt: skip
        answer = api(method, path, {"username": "x"} if method == "POST" else {} if method == "PATCH" else None)
        assert (answer.status_code, answer.json()["error"]) == (403, "permission_denied"), (method, path)
    assert api("GET", "teams").json() == []
    assert api("POST", "teams", {"name": "x"}).status_code == 403
    assert api("POST", "invitations", {}).status_code == 403


@pytest.mark.parametrize("path", ["users/999", f"users/{2**70}", "teams/999", f"teams/{2**70}", "teams/999/members"])
def test_what_is_not_there_is_not_found(api: ApiClient, path: str) -> None:
    answer = api("GET", path)
    assert answer.status_code == 404
    assert answer.json()["error"] in ("user_not_found", "team_not_found")


def test_managers_keep_their_team(api: ApiClient, api_of: Callable[[User], ApiClient], member: User) -> None:
    team = api("POST", "teams", {"name": "red"}).json()
    path = f"teams/{team['id']}"
    assert api("POST", "teams", {"name": "RED"}).json()["error"] == "name_taken"
    assert api("PUT", f"{path}/members/mia", {"manager": True}).json()["manager"] is True
    make_user("eve")
    mia = api_of(member)
    assert mia("GET", "teams").json() == [{**team, "members": 1}]
    assert mia("PUT", f"{path}/members/eve", {}).status_code == 200
    assert mia("PUT", f"{path}/members/eve", {"manager": True}).status_code == 403
    assert mia("PUT", f"{path}/members/nobody", {}).json()["error"] == "user_not_found"
    assert [one["username"] for one in mia("GET", f"{path}/members").json()] == ["eve", "mia"]
    made = mia("POST", "invitations", {"team": team["id"], "note": "Eva"}).json()
    assert made["link"].startswith("http://testserver/invitation/")
    assert Client().get(made["link"]).status_code == 200
    assert [one["note"] for one in mia("GET", "invitations").json()] == ["Eva"]
    assert mia("DELETE", f"invitations/{made['id']}").status_code == 204
    assert Client().get(made["link"]).status_code == 404
    assert mia("DELETE", f"invitations/{made['id']}").status_code == 404
    assert mia("PUT", f"{path}/members/ada", {}).json()["error"] == "permission_denied"
    assert mia("DELETE", f"{path}/members/eve").status_code == 204
    assert mia("PATCH", path, {"name": "x"}).status_code == 403
    assert mia("DELETE", path).status_code == 403
    assert api("PATCH", path, {"name": "green"}).json()["name"] == "green"
    assert api("DELETE", path).status_code == 204


def test_people_leave_a_team_by_themselves(api: ApiClient, api_of: Callable[[User], ApiClient], member: User) -> None:
    path = f"teams/{api('POST', 'teams', {'name': 'red'}).json()['id']}"
    make_user("eve")
    for name in ("mia", "eve"):
        assert api("PUT", f"{path}/members/{name}", {}).status_code == 200
    mia = api_of(member)
    for name in ("eve", "nobody"):
        assert mia("DELETE", f"{path}/members/{name}").status_code == 403
    assert mia("DELETE", f"{path}/members/mia").status_code == 204
    assert mia("DELETE", f"{path}/members/mia").status_code == 404
    assert [one["username"] for one in api("GET", f"{path}/members").json()] == ["eve"]
