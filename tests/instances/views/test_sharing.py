"""The card "Sharing" of an instance's page."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import Group
from django.test import Client

from accounts.models import User
from instances.models import Instance, InstanceShare
from tests.factories import make_instance, make_user

ClientOf = Callable[[User], Client]
HTMX = {"HX-Request": "true"}


@pytest.fixture
def alpha(operator: User, member: User) -> Instance:
    Group.objects.create(name="research")
    return make_instance("alpha", owner=operator)


def test_an_owner_shares_on_the_page(alpha: Instance, operator: User, client_of: ClientOf) -> None:
    client = client_of(operator)
    content = client.get("/instances/alpha/").content.decode()
    assert 'value="user:mia"' in content
    assert 'value="team:research"' in content
    assert 'value="user:olga"' not in content

    answer = client.post("/instances/alpha/sharing/", {"with": "user:mia", "level": "operate"}, headers=HTMX)
    content = answer.content.decode()
    assert answer.status_code == 200
    assert 'id="sharing"' in content
    assert "mia may operate alpha." in content
    assert [(share.user, share.level) for share in alpha.shares.all()] == [
        (User.objects.get(username="mia"), "operate")
    ]

    client.post("/instances/alpha/sharing/", {"with": "team:research", "level": "use"})
    removed = {"with": "user:mia", "level": "operate", "action": "remove"}
    assert client.post("/instances/alpha/sharing/", removed).status_code == 302
    assert [share.group.name for share in alpha.shares.select_related("group")] == ["research"]


@pytest.mark.parametrize("given", [{}, {"with": "user:"}, {"with": "key:3", "level": "use"}, {"with": "user:mia"}])
def test_what_is_not_chosen_is_asked_for(
    alpha: Instance, operator: User, client_of: ClientOf, given: dict[str, str]
) -> None:
    answer = client_of(operator).post("/instances/alpha/sharing/", given, headers=HTMX)
    assert answer.status_code == 422
    assert answer.headers["Corral-Fragment"]
    assert not alpha.shares.exists()


def test_an_owner_who_gives_their_instance_away_sees_what_is_left(
    alpha: Instance, operator: User, member: User, client_of: ClientOf
) -> None:
    client = client_of(operator)
    answer = client.post("/instances/alpha/owner/", {"owner": "mia"}, headers=HTMX)
    assert answer.headers["HX-Redirect"] == "/instances/alpha/"
    assert "Sharing" not in client.get("/instances/alpha/").content.decode()  # operators see everything

    theirs = client_of(member)
    answer = theirs.post("/instances/alpha/owner/", {"owner": "olga"}, headers=HTMX)
    assert answer.headers["HX-Redirect"] == "/"  # members don't
    assert theirs.post("/instances/alpha/owner/", {"owner": "mia"}, headers=HTMX).status_code == 404


def test_who_takes_their_own_right_away_is_led_out(alpha: Instance, member: User, client_of: ClientOf) -> None:
    InstanceShare.objects.create(instance=alpha, user=member, level="manage")
    client = client_of(member)
    given = {"with": "user:mia", "level": "use"}
    assert client.post("/instances/alpha/sharing/", given, headers=HTMX).headers["HX-Redirect"] == "/instances/alpha/"
    InstanceShare.objects.update(level="manage")
    given["action"] = "remove"
    assert client.post("/instances/alpha/sharing/", given, headers=HTMX).headers["HX-Redirect"] == "/"


def test_nobody_below_manage_shares(alpha: Instance, member: User, client_of: ClientOf) -> None:
    InstanceShare.objects.create(instance=alpha, user=member, level="operate")
    stranger = make_user("max")
    for user, status in ((member, 403), (stranger, 404)):
        client = client_of(user)
        given = {"with": "user:max", "level": "manage"}
        assert client.post("/instances/alpha/sharing/", given, headers=HTMX).status_code == status
        assert client.post("/instances/alpha/owner/", {"owner": "max"}, headers=HTMX).status_code == status
    assert "Sharing" not in client_of(member).get("/instances/alpha/").content.decode()
