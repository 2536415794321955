"""Who may open which page."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import URLPattern

from accounts.models import User
from accounts.urls import urlpatterns as account_routes
from instances.enums import ShareLevel
from instances.models import InstanceShare
from instances.urls import urlpatterns as instance_routes
from tests.factories import make_instance, make_ready

ROUTES = [*account_routes, *instance_routes]
PAGES = ("", "edit/", "export/", "delete/")
ACTIONS = ("start/", "stop/", "restart/", "delete/")

ClientOf = Callable[[User], Client]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: str(route.pattern))
def test_every_page_says_who_may_open_it(route: URLPattern) -> None:
    assert getattr(route.callback, "access", None) in ("person", "public")


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/", "/instances/new/", *(f"/instances/alpha/{page}" for page in PAGES)])
def test_who_is_not_signed_in_is_sent_to_sign_in_and_back(path: str) -> None:
    make_instance("alpha")
    answer = Client().get(path)
    assert (answer.status_code, answer.headers["Location"]) == (302, f"/login/?next={path}")
    fragment = Client().get(path, headers={"HX-Request": "true", "HX-Current-URL": f"http://testserver{path}"})
    assert (fragment.status_code, fragment.headers["HX-Redirect"]) == (401, f"/login/?next={path}")


@pytest.mark.django_db
@pytest.mark.parametrize("action", ACTIONS)
def test_nothing_is_done_for_who_is_not_signed_in(action: str) -> None:
    instance = make_ready("alpha")
    assert Client().post(f"/instances/alpha/{action}").status_code == 302
    instance.refresh_from_db()
    assert instance.desired_state == "running"


def test_without_management_auth_everybody_may(db: None, change_settings: Callable[..., None]) -> None:
    change_settings(require_management_auth=False)
    make_instance("alpha")
    for path in ("/", "/instances/alpha/", "/instances/new/"):
        assert Client().get(path).status_code == 200, path


@pytest.mark.parametrize("page", PAGES)
def test_others_instances_do_not_exist_for_members(member: User, client_of: ClientOf, page: str) -> None:
    make_instance("alpha")
    assert client_of(member).get(f"/instances/alpha/{page}").status_code == 404


@pytest.mark.parametrize(
    ("level", "allowed"),
    [(ShareLevel.USE, [""]), (ShareLevel.OPERATE, [""]), (ShareLevel.MANAGE, list(PAGES))],
)
def test_a_share_opens_what_its_level_says(
    member: User, client_of: ClientOf, level: ShareLevel, allowed: list[str]
) -> None:
    InstanceShare.objects.create(instance=make_ready("alpha"), user=member, level=level)
    client = client_of(member)
    for page in PAGES:
        assert client.get(f"/instances/alpha/{page}").status_code == (200 if page in allowed else 403), page
    content = client.get("/instances/alpha/").content.decode()
    assert ("Stop alpha" in content) is (level != ShareLevel.USE)
    assert ("data-log-view" in content) is (level != ShareLevel.USE)
    assert ("Command of the next start" in content) is (level == ShareLevel.MANAGE)


def test_a_team_sees_what_is_shared_with_it(member: User, client_of: ClientOf) -> None:
    team = Group.objects.create(name="research")
    member.groups.add(team)
    InstanceShare.objects.create(instance=make_instance("ours"), group=team)
    make_instance("theirs")
    content = client_of(member).get("/").content.decode()
    assert "ours" in content
    assert "theirs" not in content
    assert "New instance" not in content


@pytest.mark.parametrize("action", ACTIONS)
def test_a_user_may_do_nothing_with_what_they_only_use(member: User, client_of: ClientOf, action: str) -> None:
    instance = make_ready("alpha")
    InstanceShare.objects.create(instance=instance, user=member)
    answer = client_of(member).post(f"/instances/alpha/{action}", headers={"HX-Request": "true"})
    assert answer.status_code == 403
    assert "You may not" in answer.content.decode()
    instance.refresh_from_db()
    assert instance.desired_state == "running"


def test_only_operators_create(member: User, operator: User, client_of: ClientOf) -> None:
    assert client_of(member).get("/instances/new/").status_code == 403
    assert client_of(member).post("/instances/new/", {"name": "x"}, headers={"HX-Request": "true"}).status_code == 403
    assert client_of(operator).get("/instances/new/").status_code == 200


@pytest.mark.parametrize("action", ["start/", "stop/", "restart/"])
def test_actions_are_posts(client: Client, action: str) -> None:
    make_instance("alpha")
    assert client.get(f"/instances/alpha/{action}").status_code == 405


def test_forged_posts_are_refused(admin: User) -> None:
    make_ready("alpha")
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin)
    answer = client.post("/instances/alpha/stop/")
    assert answer.status_code == 403
    assert "open too long" in answer.content.decode()


def test_an_instance_may_be_called_like_a_page(client: Client) -> None:
    instance = make_instance("new")
    content = client.get("/").content.decode()
    assert 'href="/instances/~new/"' in content
    assert client.get("/instances/~new/").context["instance"] == instance
    assert client.get("/instances/new/").context["instance"] is None
