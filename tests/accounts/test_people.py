"""People come, change and go; somebody who can do everything always stays."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.test import Client

from accounts.credentials import PresentedKeys
from accounts.domain.actors import actor_for, console_actor
from accounts.domain.invitations import accept_invitation, create_invitation, register, withdraw_invitation
from accounts.domain.keys import find_key
from accounts.domain.leaving import activate_user, deactivate_user, delete_user
from accounts.domain.people import change_role, create_user, find_user, save_new_user
from accounts.domain.setup import owner_of_automation
from accounts.domain.teams import create_team, set_manager
from accounts.enums import Role
from accounts.errors import InvalidPerson, InvitationNotFound, LastAdministrator, NotAllowed
from accounts.models import ApiKey, Invitation, User
from instances.logs.access import Credentials, find_actor
from instances.logs.errors import NotAuthenticated
from instances.models import Instance
from portal.sessions import load_principal
from tests.factories import make_instance, make_key, make_user

pytestmark = pytest.mark.django_db
PASSWORD = "a long enough password"


def test_a_deactivated_person_is_out_at_once_everywhere(admin: User, member: User) -> None:
    client, key = Client(), make_key(member)
    client.force_login(member)
    session = client.cookies["sessionid"].value
    assert client.get("/").status_code == 200
    assert load_principal(session) is not None

    deactivate_user(actor=actor_for(admin), user=member)

    assert client.get("/").headers["Location"] == "/login/?next=/"
    assert load_principal(session) is None
    with pytest.raises(NotAuthenticated):
        find_actor(Credentials(PresentedKeys(), session))
    assert find_key(key) is None
    assert not member.sessions.exists()

    activate_user(actor=actor_for(admin), user=member)
    assert find_key(key) is not None
    assert client.get("/").status_code == 302  # the session stays ended


def test_gateways_are_told_of_a_deactivation(
    admin: User, member: User, django_capture_on_commit_callbacks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[object] = []
    monkeypatch.setattr("accounts.events.publish", sent.append)  # the channel layer's end; no Redis runs here
    with django_capture_on_commit_callbacks(execute=True):
        deactivate_user(actor=actor_for(admin), user=member)
    assert {"type": "keys.changed"} in sent


def test_who_is_deleted_leaves_instances_to_an_heir_and_no_keys(admin: User, operator: User, member: User) -> None:
    make_instance("alpha", owner=operator)
    key = make_key(operator)
    delete_user(actor=actor_for(admin), user=operator, heir=member)
    assert Instance.objects.get().owner == member
    assert find_key(key) is None
    assert not ApiKey.objects.filter(user_id=operator.pk).exists()
    delete_user(actor=actor_for(admin), user=member)
    assert Instance.objects.get().owner == admin


def test_instances_are_left_to_somebody_who_can_have_them(admin: User, operator: User, member: User) -> None:
    make_instance("alpha", owner=operator)
    with pytest.raises(InvalidPerson, match="heir"):
        delete_user(actor=console_actor(), user=operator)
    with pytest.raises(InvalidPerson, match="heir"):
        delete_user(actor=actor_for(admin), user=operator, heir=operator)
    deactivate_user(actor=actor_for(admin), user=member)
    with pytest.raises(InvalidPerson, match="heir"):
        delete_user(actor=actor_for(admin), user=operator, heir=member)
    assert Instance.objects.get().owner == operator


def test_the_last_administrator_stays(admin: User) -> None:
    console = console_actor()
    owner_of_automation()
    system = User(username="system", role=Role.ADMIN)
    system.set_unusable_password()
    system.save()  # nobody can sign in as it, so it does not count
    for call in (
        lambda: change_role(actor=console, user=admin, role=Role.MEMBER),
        lambda: deactivate_user(actor=console, user=admin),
        lambda: delete_user(actor=console, user=admin),
    ):
        with pytest.raises(LastAdministrator):
            call()
    other = make_user("bea", Role.ADMIN)
    change_role(actor=actor_for(admin), user=other, role=Role.OPERATOR)
    with pytest.raises(LastAdministrator):
        change_role(actor=console, user=admin, role=Role.OPERATOR)


def test_nobody_shuts_themselves_out(admin: User) -> None:
    make_user("bea", Role.ADMIN)
    with pytest.raises(NotAllowed, match="yourself"):
        deactivate_user(actor=actor_for(admin), user=admin)
    with pytest.raises(NotAllowed, match="yourself"):
        delete_user(actor=actor_for(admin), user=admin)


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.MEMBER])
def test_others_change_no_people(admin: User, role: Role) -> None:
    actor = actor_for(make_user("eve", role))
    calls: list[Callable[[], Any]] = [
        lambda: create_user(actor=actor, username="x", password=PASSWORD),
        lambda: change_role(actor=actor, user=actor.user, role=Role.ADMIN),
        lambda: deactivate_user(actor=actor, user=admin),
        lambda: activate_user(actor=actor, user=admin),
        lambda: delete_user(actor=actor, user=admin),
        lambda: create_invitation(actor=actor, role=Role.ADMIN),
        lambda: create_invitation(actor=actor),
    ]
    for call in calls:
        with pytest.raises(NotAllowed):
            call()


def test_any_database_is_asked_for_a_name_with_nul(db: None, django_assert_num_queries: Any) -> None:
    """PostgreSQL takes none, and answered with an error of ours."""
    with django_assert_num_queries(0):
        assert find_user("a\0b") is None


def test_names_differ_in_more_than_case(admin: User) -> None:
    with pytest.raises(ValidationError, match="exists"):
        create_user(actor=actor_for(admin), username="ADA", password=PASSWORD)


def race(*calls: Callable[[], Any]) -> list[Any]:
    """Make the calls at once, each with a connection of its own, and return their results or errors."""
    barrier, results = threading.Barrier(len(calls)), []

    def run(call: Callable[[], Any]) -> None:
        barrier.wait(30)
        try:
            results.append(call())
        except Exception as error:  # noqa: BLE001  it is looked at
            results.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[call]) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


@pytest.mark.django_db(transaction=True)
def test_of_two_last_administrators_who_leave_at_once_one_stays() -> None:
    first, second = make_user("ada", Role.ADMIN), make_user("bea", Role.ADMIN)
    results = race(
        lambda: change_role(actor=console_actor(), user=User.objects.get(pk=first.pk), role=Role.MEMBER),
        lambda: deactivate_user(actor=console_actor(), user=User.objects.get(pk=second.pk)),
    )
    assert sorted(type(result).__name__ for result in results) == ["LastAdministrator", "NoneType"]
    assert User.objects.filter(role=Role.ADMIN, is_active=True).count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_two_who_accept_an_invitation_at_once_one_gets_in() -> None:
    _, token = create_invitation(actor=console_actor())
    results = race(
        *(lambda name=name: accept_invitation(token=token, username=name, password=PASSWORD) for name in ("a", "b"))
    )
    assert sorted(type(result).__name__ for result in results) == ["InvitationNotFound", "User"]
    assert User.objects.count() == 1


def test_an_invitation_gives_its_role_and_team_once(admin: User) -> None:
    team = create_team(actor=actor_for(admin), name="red")
    invitation, token = create_invitation(actor=actor_for(admin), role=Role.OPERATOR, team=team, note="Olga")
    assert token not in str(list(Invitation.objects.values()))
    with pytest.raises(ValidationError):
        accept_invitation(token=token, username="olga", password="short")
    olga = accept_invitation(token=token, username="olga", password=PASSWORD)
    assert olga.role == Role.OPERATOR
    assert list(team.members) == [olga]
    invitation.refresh_from_db()
    assert invitation.used_by == olga
    with pytest.raises(InvitationNotFound):
        accept_invitation(token=token, username="eve", password=PASSWORD)
    with pytest.raises(InvitationNotFound):
        withdraw_invitation(actor=actor_for(admin), invitation_id=invitation.pk)


def test_an_invitation_ends_by_time_by_withdrawal_and_with_its_makers_rights(admin: User) -> None:
    boss = make_user("bea", Role.ADMIN)
    made = [create_invitation(actor=actor_for(boss)) for _ in range(3)]
    Invitation.objects.filter(pk=made[0][0].pk).update(expires_at=made[0][0].created_at)
    withdraw_invitation(actor=actor_for(admin), invitation_id=made[1][0].pk)
    change_role(actor=actor_for(admin), user=boss, role=Role.MEMBER)
    for _, token in made:
        with pytest.raises(InvitationNotFound):
            accept_invitation(token=token, username="eve", password=PASSWORD)
    assert not User.objects.filter(username="eve").exists()


def test_managers_invite_members_into_their_team_only(admin: User, member: User) -> None:
    red, blue = (create_team(actor=actor_for(admin), name=name) for name in ("red", "blue"))
    set_manager(actor=actor_for(admin), team=red, user=member, manages=True)
    actor = actor_for(member)
    create_invitation(actor=actor, team=red)
    for wrong in ({"team": blue}, {"team": red, "role": Role.OPERATOR}, {}):
        with pytest.raises(NotAllowed):
            create_invitation(actor=actor, **wrong)


@pytest.mark.parametrize("days", [0, -1, 91, 10**12])
def test_invitations_are_good_for_a_while(admin: User, days: int) -> None:
    with pytest.raises(InvalidPerson, match="days"):
        create_invitation(actor=actor_for(admin), days=days)


def test_registering_depends_on_the_setting(admin: User, change_settings: Callable[..., None]) -> None:
    with pytest.raises(NotAllowed):
        register(username="eve", password=PASSWORD)
    change_settings(registration="approval")
    client = Client()
    fields = {"username": "eve", "password": PASSWORD, "password_again": PASSWORD}
    assert client.post("/register/", fields).status_code == 202
    refused = client.post("/login/", {"login": "eve", "password": PASSWORD})
    assert refused.status_code == 403
    assert "Wait for approval" in refused.content.decode()
    activate_user(actor=actor_for(admin), user=User.objects.get(username="eve"))
    assert client.post("/login/", {"login": "eve", "password": PASSWORD}).status_code == 302
    change_settings(registration="open")
    other = Client()
    assert other.post("/register/", {**fields, "username": "mallory"}).headers["Location"] == "/"
    assert User.objects.get(username="mallory").role == Role.MEMBER
    assert other.get("/profile/").status_code == 200


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["system", "System", "SYSTEM"])
def test_the_name_of_corrals_own_user_is_nobodys(name: str) -> None:
    """With it somebody else would stand where the owner of keys from settings is made, and Corral would not start."""
    with pytest.raises(ValidationError, match="kept for Corral itself"):
        save_new_user(User(username=name), "a long enough password")
    assert owner_of_automation().username == "system"
