"""The pages about people, teams and oneself: who may open them and what their buttons do."""

from __future__ import annotations

import re

import pytest
from allauth.mfa.models import Authenticator
from django.test import Client

from accounts.domain.actors import actor_for
from accounts.domain.people import set_password
from accounts.domain.setup import create_admin
from accounts.domain.teams import add_member, create_team, set_manager
from accounts.enums import Role
from accounts.models import Invitation, Team, User
from tests.factories import make_user
from tests.pages import read_token

pytestmark = pytest.mark.django_db
PASSWORD = "a long enough password"


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_administrators_work_with_people(admin: User) -> None:
    client, eve = signed_in(admin), make_user("eve")
    User.objects.filter(pk=eve.pk).update(is_active=False, awaits_approval=True)
    page = client.get("/people/").content.decode()
    assert "Approve" in page
    assert client.post(f"/people/{eve.pk}/activate/").headers["Location"] == f"/people/{eve.pk}/"
    client.post(f"/people/{eve.pk}/role/", {"role": "operator"})
    eve.refresh_from_db()
    assert (eve.is_active, eve.awaits_approval, eve.role) == (True, False, Role.OPERATOR)
    client.post(f"/people/{eve.pk}/password/", {"password": PASSWORD})
    eve.refresh_from_db()
    assert eve.check_password(PASSWORD)
    client.post(f"/people/{eve.pk}/deactivate/")
    assert "Deactivated" in client.get(f"/people/{eve.pk}/").content.decode()
    assert client.post(f"/people/{eve.pk}/delete/", {"heir": "ada"}).headers["Location"] == "/people/"
    assert not User.objects.filter(username="eve").exists()


def test_the_list_is_searched_and_filtered(admin: User) -> None:
    make_user("eve")
    page = signed_in(admin).get("/people/?q=EV&role=member&state=active").content.decode()
    assert ">eve<" in page
    assert "1 of 2 people" in page
    for query in ("q=\0", "q=" + "x" * 1000, "page=999", "page=x", "state=x&role=y"):
        assert signed_in(admin).get(f"/people/?{query}").status_code == 200


@pytest.mark.parametrize("role", [Role.MEMBER, Role.OPERATOR])
def test_others_do_not_see_people(admin: User, role: Role) -> None:
    client = signed_in(make_user("eve", role))
    for path in ("/people/", f"/people/{admin.pk}/"):
        assert client.get(path).status_code == 403
    client.post(f"/people/{admin.pk}/deactivate/")
    client.post("/people/invite/", {"role": "admin", "days": "7"})
    admin.refresh_from_db()
    assert admin.is_active
    assert not Invitation.objects.exists()


@pytest.mark.parametrize("path", ["/people/{}/", "/people/{}/role/", "/people/{}/delete/", "/teams/{}/"])
@pytest.mark.parametrize("number", [999, 2**63, 10**40])
def test_what_is_not_there_is_not_found(admin: User, path: str, number: int) -> None:
    client = signed_in(admin)
    method = client.get if path.count("/") == 3 else client.post
    assert method(path.format(number)).status_code == 404


def test_an_invitation_is_made_shown_once_and_accepted(admin: User) -> None:
    client, team = signed_in(admin), create_team(actor=actor_for(admin), name="red")
    page = client.post("/people/invite/", {"role": "operator", "team": team.pk, "days": "3", "note": "Eve"})
    link = re.search(r"http://testserver(/invitation/[^<]+)<", page.content.decode())[1]
    assert link not in client.get("/people/").content.decode()
    guest = Client()
    assert "as operator in the team red" in guest.get(link).content.decode()
    assert guest.post(link, {"username": "eve", "password": "x", "password_again": "x"}).status_code == 422
    fields = {"username": "eve", "password": PASSWORD, "password_again": PASSWORD, "email": "eve@example.org"}
    assert guest.post(link, fields).headers["Location"] == "/"
    assert "eve" in guest.get("/profile/").content.decode()
    assert Client().get(link).status_code == 404
    eve = User.objects.get(username="eve")
    assert (eve.role, eve.email, list(team.members)) == (Role.OPERATOR, "eve@example.org", [eve])


@pytest.mark.parametrize("team", ["x", "0", "-1", "999", str(2**40), "9" * 50, "\u0661"])
def test_a_team_that_is_none_is_refused(admin: User, team: str) -> None:
    answer = signed_in(admin).post("/people/invite/", {"role": "member", "team": team, "days": "7"})
    assert answer.status_code == 422
    assert not Invitation.objects.exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"days": "0"}, "greater than or equal to 1"),
        ({"days": ""}, "This field is required."),
        ({"role": "king"}, "Select a valid choice"),
        ({"note": "for\u202eEve"}, "At most 100 printable characters."),
    ],
)
@pytest.mark.parametrize("where", ["people", "team"])
def test_an_invitation_that_will_not_do_is_shown_again_where_it_was_written(
    admin: User, where: str, changes: dict[str, str], sentence: str
) -> None:
    team = create_team(actor=actor_for(admin), name="red")
    fields = {"role": "member", "team": str(team.pk), "days": "7", "note": "for Eve", "page": where, **changes}
    answer = signed_in(admin).post("/people/invite/", fields)
    page = answer.content.decode()
    assert answer.status_code == 422
    assert sentence in page
    assert f"<title>{'red' if where == 'team' else 'People'}" in page
    assert f'value="{fields["note"]}"' in page
    assert not Invitation.objects.exists()


def test_sending_an_invitation_again_makes_no_second_one(admin: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin)

    def send(token: str) -> int:
        fields = {"role": "member", "days": "7", "csrfmiddlewaretoken": token}
        return client.post("/people/invite/", fields, headers={"referer": "http://testserver/people/"}).status_code

    first, second = (read_token(client.get("/people/").content.decode()) for _ in range(2))
    assert [send(first), send(first), send(second), send(second)] == [200, 302, 200, 302]
    assert "was made already" in client.get("/people/").content.decode()
    assert Invitation.objects.count() == 2


@pytest.mark.parametrize(
    ("path", "name", "value", "sentence"),
    [
        ("/teams/", "name", "red", "There is a team red already."),
        ("/teams/", "name", "", "A team needs a name of 1 to"),
        ("/teams/{blue}/rename/", "name", "red", "There is a team red already."),
        ("/teams/{blue}/members/", "username", "nobody", "There is no active user &#x27;nobody&#x27;."),
        ("/teams/{blue}/members/", "username", "", "Write the name of a user."),
    ],
)
def test_what_a_form_of_teams_is_refused_for_stands_beside_it(
    admin: User, path: str, name: str, value: str, sentence: str
) -> None:
    create_team(actor=actor_for(admin), name="red")
    blue = create_team(actor=actor_for(admin), name="blue")
    answer = signed_in(admin).post(path.format(blue=blue.pk), {name: value})
    page = answer.content.decode()
    assert answer.status_code == 422
    assert sentence in page
    if value:
        assert f'name="{name}" value="{value}"' in page
    assert sorted(team.name for team in Team.objects.all()) == ["blue", "red"]


def test_a_team_is_managed_by_its_manager(admin: User, member: User) -> None:
    team, boss = create_team(actor=actor_for(admin), name="red"), make_user("boss")
    set_manager(actor=actor_for(admin), team=team, user=boss, manages=True)
    client = signed_in(boss)
    assert "red" in client.get("/teams/").content.decode()
    client.post(f"/teams/{team.pk}/members/", {"username": "mia"})
    assert list(team.members) == [boss, member]
    invited = client.post("/people/invite/", {"role": "member", "team": team.pk, "days": "3"})
    assert "/invitation/" in invited.content.decode()
    withdrawn = client.post(f"/people/invitations/{Invitation.objects.get().pk}/withdraw/")
    assert withdrawn.headers["Location"] == f"/teams/{team.pk}/"
    client.post(f"/teams/{team.pk}/members/{member.pk}/remove/")
    assert list(team.members) == [boss]
    client.post(f"/teams/{team.pk}/delete/")
    client.post(f"/teams/{team.pk}/rename/", {"name": "green"})
    assert Team.objects.get().name == "red"
    assert signed_in(member).get(f"/teams/{team.pk}/").status_code == 404


def test_a_member_leaves_a_team_by_a_button(admin: User, member: User) -> None:
    team = create_team(actor=actor_for(admin), name="red")
    for person in (admin, member):
        add_member(actor=actor_for(admin), team=team, user=person)
    client = signed_in(member)
    page = client.get(f"/teams/{team.pk}/").content.decode()
    assert page.count("/remove/") == 1
    assert f'action="/teams/{team.pk}/members/{member.pk}/remove/"' in page
    client.post(f"/teams/{team.pk}/members/{admin.pk}/remove/")
    assert list(team.members) == [admin, member]
    assert client.post(f"/teams/{team.pk}/members/{member.pk}/remove/").headers["Location"] == "/teams/"
    assert list(team.members) == [admin]
    left = signed_in(admin).post(f"/teams/{team.pk}/members/{admin.pk}/remove/")
    assert left.headers["Location"] == f"/teams/{team.pk}/"


def test_administrators_make_name_and_delete_teams(admin: User, member: User) -> None:
    client = signed_in(admin)
    made = client.post("/teams/", {"name": "red"}).headers["Location"]
    client.post(f"{made}members/", {"username": "mia"})
    client.post(f"{made}members/{member.pk}/manager/", {"manages": "yes"})
    client.post(f"{made}rename/", {"name": "green"})
    page = client.get(made).content.decode()
    assert "green" in page
    assert "manager" in page
    refused = client.post(
        f"/people/{member.pk}/role/", {"role": "king"}, headers={"referer": f"http://testserver{made}"}
    )
    assert refused.headers["Location"] == made
    assert client.post(f"{made}delete/").headers["Location"] == "/teams/"
    assert not Team.objects.exists()


def test_a_refusal_leads_to_a_page_of_ours_only(admin: User) -> None:
    for referer in ("https://evil.example/x", "//evil.example", "http://testserver@evil.example/", "x"):
        answer = signed_in(admin).post(f"/people/{admin.pk}/role/", {"role": "king"}, headers={"referer": referer})
        assert answer.headers["Location"] == "/"


@pytest.mark.parametrize("path", ["//evil.example/x", "///evil.example", "/\\evil.example"])
def test_a_path_that_browsers_take_for_another_host_is_no_page_of_ours(admin: User, path: str) -> None:
    """An open redirect: without its host, http://testserver//evil.example/x is an address of another."""
    answer = signed_in(admin).post(
        f"/people/{admin.pk}/role/", {"role": "king"}, headers={"referer": f"http://testserver{path}"}
    )
    assert answer.headers["Location"] == "/"


@pytest.mark.parametrize("address", ["http://[", "http://[::1", "//\\[", "http://testserver:99999999/"])
def test_an_address_that_is_none_leads_to_the_first_page(admin: User, address: str) -> None:
    refused = signed_in(admin).post(f"/people/{admin.pk}/role/", {"role": "king"}, headers={"referer": address})
    assert refused.status_code == 302
    gone = Client().get("/", headers={"hx-request": "true", "hx-current-url": address})
    assert gone.status_code == 401
    assert gone.headers["HX-Redirect"].startswith("/login/?next=/")


def test_ones_own_password_is_changed_by_the_profile_only(db: None) -> None:
    """The page for other people's asks for no password, so whoever found a browser open could take the account."""
    ada = create_admin(username="ada", password=PASSWORD)
    Authenticator.objects.create(user=ada, type=Authenticator.Type.TOTP, data={"secret": "x"})
    client = signed_in(ada)
    for what, fields in (("password", {"password": "another long password"}), ("second-factors/remove", {})):
        refused = client.post(f"/people/{ada.pk}/{what}/", fields, follow=True)
        assert "Use your profile for your own account" in refused.content.decode()
    ada.refresh_from_db()
    assert ada.check_password(PASSWORD)
    assert Authenticator.objects.filter(user=ada).exists()


def test_a_name_with_a_character_that_databases_refuse_is_nobodys(admin: User, member: User) -> None:
    team, client = create_team(actor=actor_for(admin), name="red"), signed_in(admin)
    assert client.post(f"/teams/{team.pk}/members/", {"username": "a\0b"}).status_code == 422
    assert client.post(f"/people/{member.pk}/delete/", {"heir": "a\0b"}).status_code == 302
    assert User.objects.filter(pk=member.pk).exists()
    assert not team.members


def test_people_change_what_is_about_them(admin: User) -> None:
    client = signed_in(admin)
    fields = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.org"}
    assert client.post("/profile/details/", fields).headers["Location"] == "/profile/"
    admin.refresh_from_db()
    assert (admin.get_full_name(), admin.email) == ("Ada Lovelace", "ada@example.org")
    assert client.post("/profile/details/", {"email": "nonsense"}).status_code == 422


def test_a_new_password_ends_other_sessions(db: None) -> None:
    ada = create_admin(username="ada", password=PASSWORD)
    here, elsewhere = signed_in(ada), signed_in(ada)
    new = {"password": "another long password", "password_again": "another long password"}
    assert here.post("/profile/password/", {"old_password": "wrong", **new}).status_code == 422
    assert here.post("/profile/password/", {"old_password": PASSWORD, **new}).status_code == 302
    assert here.get("/profile/").status_code == 200
    assert elsewhere.get("/profile/").status_code == 302
    assert ada.sessions.count() == 1
    ada.refresh_from_db()
    set_password(actor=actor_for(ada), user=ada, password=PASSWORD)
    assert here.get("/profile/").status_code == 302


def test_sessions_are_listed_and_ended(admin: User, member: User) -> None:
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"
    here, elsewhere, third, strange = (signed_in(user) for user in (admin, admin, admin, member))
    admin.sessions.update(user_agent=agent)
    assert here.get("/profile/").content.decode().count("Firefox on Linux") == 3
    key = elsewhere.cookies["sessionid"].value
    here.post(f"/profile/sessions/{admin.sessions.get(session_key=key).pk}/end/")
    assert elsewhere.get("/profile/").status_code == 302
    here.post(f"/profile/sessions/{member.sessions.get().pk}/end/")
    assert strange.get("/profile/").status_code == 200
    here.post("/profile/sessions/end/")
    assert third.get("/profile/").status_code == 302
    assert here.get("/profile/").status_code == 200
    here.post("/logout/")
    assert not admin.sessions.exists()


@pytest.mark.parametrize("path", ["/profile/", "/people/", "/teams/", "/profile/app/", "/profile/passkeys/add/"])
def test_strangers_are_sent_to_sign_in(db: None, path: str) -> None:
    assert Client().get(path).headers["Location"].startswith("/login/?next=")


@pytest.mark.parametrize(
    "path", ["/signup/", "/email/", "/password/reset/", "/3rdparty/", "/oidc/", "/2fa/", "/login/code/confirm/"]
)
def test_what_else_allauth_offers_is_not_there(admin: User, path: str) -> None:
    assert signed_in(admin).get(path).status_code == 404
