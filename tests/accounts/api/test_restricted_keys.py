"""An administrator's key that ends or is limited makes no more of itself by way of people, teams or limits."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.domain.actors import CORRAL, actor_for
from accounts.domain.invitations import create_invitation
from accounts.domain.keys import create_key, rotate_key
from accounts.domain.quotas import set_key_limits, set_quota
from accounts.domain.teams import add_member, create_team
from accounts.enums import KeyKind, Role
from accounts.models import ApiKey, Invitation, Quota, Team, User
from tests.conftest import ApiClient

PASSWORD = "a long enough password"
DAY = {"unit": "requests", "window": "day"}
KINDS = ["expires", "limited", "can_start", "can_evict", "replaced"]


def make_restricted(user: User, how: str) -> tuple[ApiClient, ApiKey]:
    """A client with a key of this person that is less than they are."""
    values: dict[str, Any] = {"expires_at": timezone.now() + timedelta(hours=1)} if how == "expires" else {}
    if how in ("can_start", "can_evict"):
        values[how] = False
    key, plain = create_key(actor=CORRAL, user=user, name=how, kind=KeyKind.MANAGEMENT, **values)
    if how == "limited":
        set_key_limits(key, {("requests", "day"): 100})
    if how == "replaced":
        rotate_key(actor=CORRAL, key=key, grace=timedelta(hours=1))
    return ApiClient(plain), key


@pytest.fixture
def team(admin: User, member: User) -> Team:
    team = create_team(actor=actor_for(admin), name="red")
    for user in (admin, member):
        add_member(actor=actor_for(admin), team=team, user=user)
    return team


def list_changes(team: Team, member: User, invitation: Invitation, quota: Quota) -> Iterator[tuple[str, str, Any]]:
    """Every change of people, teams, invitations and limits that the API has."""
    yield "POST", "quotas", {**DAY, "limit": 1}
    yield "PATCH", f"quotas/{quota.pk}", {"limit": 10**6}
    yield "DELETE", f"quotas/{quota.pk}", None
    yield "POST", "users", {"username": "eve", "password": PASSWORD, "role": "admin"}
    for change in ({"password": PASSWORD}, {"role": "admin"}, {"active": False}, {"email": "e@example.org"}, {}):
        yield "PATCH", f"users/{member.pk}", change
    yield "POST", "invitations", {"role": "admin"}
    yield "DELETE", f"invitations/{invitation.pk}", None
    yield "POST", "teams", {"name": "blue"}
    yield "PATCH", f"teams/{team.pk}", {"name": "green"}
    yield "PUT", f"teams/{team.pk}/members/mia", {"manager": True}
    yield "DELETE", f"teams/{team.pk}/members/mia", None
    yield "DELETE", f"teams/{team.pk}/members/ada", None
    yield "DELETE", f"teams/{team.pk}", None
    yield "DELETE", f"users/{member.pk}", None


@pytest.mark.parametrize("how", KINDS)
def test_a_restricted_key_changes_no_people_teams_invitations_or_limits(
    admin: User, member: User, team: Team, how: str
) -> None:
    client, _ = make_restricted(admin, how)
    quota = set_quota(actor=CORRAL, **DAY, limit=5, user=admin)
    invitation, _ = create_invitation(actor=actor_for(admin))
    for method, path, body in list_changes(team, member, invitation, quota):
        answer = client(method, path, body)
        assert (answer.status_code, answer.json()["error"]) == (403, "permission_denied"), (method, path, body)
        assert answer.json()["details"].startswith("A key that ends or is limited in any way can't change people")
    assert client("GET", "users").status_code == client("GET", "quotas").status_code == 200
    quota.refresh_from_db()
    assert quota.limit == 5
    assert Invitation.objects.open().count() == 1
    assert set(team.members) == {admin, member}
    assert set(User.objects.values_list("username", "role")) == {("ada", Role.ADMIN), ("mia", Role.MEMBER)}


def test_a_limited_key_does_not_lift_its_own_limit(admin: User) -> None:
    client, key = make_restricted(admin, "limited")
    quota = key.quotas.get()
    assert client("PATCH", f"quotas/{quota.pk}", {"limit": 10**6}).status_code == 403
    assert client("DELETE", f"quotas/{quota.pk}").status_code == 403
    assert key.quotas.get().limit == 100


def test_a_managers_key_that_ends_invites_nobody(team: Team, member: User) -> None:
    team.managers.add(member)
    client, _ = make_restricted(member, "expires")
    answer = client("POST", "invitations", {"team": team.pk})
    assert answer.status_code == 403
    assert not Invitation.objects.exists()


def test_a_whole_key_changes_all_of_them(api: ApiClient, member: User, team: Team, admin: User) -> None:
    quota = set_quota(actor=CORRAL, **DAY, limit=5, user=admin)
    invitation, _ = create_invitation(actor=actor_for(admin))
    for method, path, body in list_changes(team, member, invitation, quota):
        assert api(method, path, body).status_code < 300, (method, path, body)
