"""Teams: who may change them, and what a change means to shares at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group

from accounts.domain.actors import CORRAL, Actor, actor_for
from accounts.domain.teams import (
    add_member,
    create_team,
    delete_team,
    find_team,
    remove_member,
    rename_team,
    set_manager,
    visible_teams,
)
from accounts.enums import Role
from accounts.errors import InvalidPerson, NameTaken, NotAllowed, TeamNotFound
from accounts.models import AuditEntry, Team, User
from instances.models import Instance, InstanceShare
from tests.factories import make_instance, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def team(admin: User) -> Team:
    return create_team(actor=actor_for(admin), name="red")


def test_a_team_is_the_group_that_instances_are_shared_with(admin: User, member: User, team: Team) -> None:
    InstanceShare.objects.create(instance=make_instance(), group=team.group)
    assert not Instance.objects.visible_to(member)
    add_member(actor=actor_for(admin), team=team, user=member)
    assert Instance.objects.visible_to(member)
    assert list(team.members) == [member]
    remove_member(actor=actor_for(admin), team=team, user=member)
    assert not Instance.objects.visible_to(member)
    delete_team(actor=actor_for(admin), team=team)
    assert not InstanceShare.objects.exists()
    assert not Group.objects.exists()
    assert list(AuditEntry.objects.order_by("pk").values_list("action", flat=True)) == [
        "team.create",
        "team.add_member",
        "team.remove_member",
        "team.delete",
    ]


def test_a_manager_changes_members_of_their_team_and_nothing_else(admin: User, member: User, team: Team) -> None:
    boss, other = make_user("boss"), create_team(actor=actor_for(admin), name="blue")
    set_manager(actor=actor_for(admin), team=team, user=boss, manages=True)
    actor = actor_for(boss)
    assert list(team.members) == [boss]
    add_member(actor=actor, team=team, user=member)
    remove_member(actor=actor, team=team, user=member)
    refused: list[Callable[[], Any]] = [
        lambda: add_member(actor=actor, team=other, user=member),
        lambda: remove_member(actor=actor, team=other, user=member),
        lambda: rename_team(actor=actor, team=team, name="green"),
        lambda: delete_team(actor=actor, team=team),
        lambda: create_team(actor=actor, name="green"),
        lambda: set_manager(actor=actor, team=team, user=member, manages=True),
    ]
    for call in refused:
        with pytest.raises(NotAllowed):
            call()
    set_manager(actor=actor_for(admin), team=team, user=boss, manages=False)
    with pytest.raises(NotAllowed):
        add_member(actor=actor, team=team, user=member)


def test_a_manager_neither_puts_an_administrator_into_the_team_nor_takes_them_out(admin: User, team: Team) -> None:
    """A limit of the team would have counted for them."""
    boss, chief = make_user("boss"), make_user("chief", Role.ADMIN)
    set_manager(actor=actor_for(admin), team=team, user=boss, manages=True)
    with pytest.raises(NotAllowed, match="chief is an administrator"):
        add_member(actor=actor_for(boss), team=team, user=chief)
    assert list(team.members) == [boss]
    add_member(actor=actor_for(admin), team=team, user=chief)
    with pytest.raises(NotAllowed, match="chief is an administrator"):
        remove_member(actor=actor_for(boss), team=team, user=chief)
    add_member(actor=actor_for(boss), team=team, user=make_user("olga", Role.OPERATOR))


@pytest.mark.parametrize("role", Role.values)
def test_everybody_can_leave_a_team_by_themselves_and_take_nobody_along(admin: User, team: Team, role: Role) -> None:
    person, other = make_user("pat", role), make_user("other")
    for one in (person, other):
        add_member(actor=actor_for(admin), team=team, user=one)
    if role != Role.ADMIN:
        with pytest.raises(NotAllowed):
            remove_member(actor=actor_for(person), team=team, user=other)
    remove_member(actor=actor_for(person), team=team, user=person)
    assert list(team.members) == [other]
    entry = AuditEntry.objects.latest("pk")
    assert (entry.action, entry.actor, entry.before) == ("team.remove_member", "user:pat", {"member": "pat"})


@pytest.mark.parametrize("role", [Role.MEMBER, Role.OPERATOR])
def test_a_mere_member_changes_nothing_and_sees_only_their_teams(admin: User, team: Team, role: Role) -> None:
    person = make_user("pat", role)
    hidden = create_team(actor=actor_for(admin), name="blue")
    add_member(actor=actor_for(admin), team=team, user=person)
    actor = actor_for(person)
    assert list(visible_teams(actor)) == [team]
    assert find_team(actor, team.pk) == team
    with pytest.raises(TeamNotFound):
        find_team(actor, hidden.pk)
    with pytest.raises(NotAllowed):
        add_member(actor=actor, team=team, user=admin)


def test_who_leaves_a_team_does_not_stay_its_manager(admin: User, member: User, team: Team) -> None:
    set_manager(actor=actor_for(admin), team=team, user=member, manages=True)
    remove_member(actor=actor_for(admin), team=team, user=member)
    assert not team.managers.exists()


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "a\nb", "a\0b"])
def test_names_that_will_not_do(admin: User, name: str) -> None:
    with pytest.raises(InvalidPerson, match=r"^name: "):
        create_team(actor=actor_for(admin), name=name)


def test_a_name_is_given_once(admin: User, team: Team) -> None:
    with pytest.raises(NameTaken):
        create_team(actor=actor_for(admin), name=" RED ")
    other = create_team(actor=actor_for(admin), name="blue")
    with pytest.raises(NameTaken):
        rename_team(actor=actor_for(admin), team=other, name="Red")
    rename_team(actor=actor_for(admin), team=team, name="Red")
    assert Group.objects.filter(name="Red").exists()


def test_changes_of_members_are_announced(
    admin: User, member: User, team: Team, django_capture_on_commit_callbacks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[object] = []
    monkeypatch.setattr("accounts.events.publish", sent.append)  # the channel layer's end; no Redis runs here
    with django_capture_on_commit_callbacks(execute=True):
        add_member(actor=actor_for(admin), team=team, user=member)
        remove_member(actor=actor_for(admin), team=team, user=member)
    assert sent == [{"type": "keys.changed"}] * 2


def test_a_key_limited_to_instances_changes_no_team(admin: User) -> None:
    from accounts.domain.keys import create_key
    from accounts.enums import KeyKind, PermissionMode

    key, _ = create_key(
        actor=CORRAL, user=admin, name="k", kind=KeyKind.MANAGEMENT, permission_mode=PermissionMode.PER_INSTANCE
    )
    actor: Actor = actor_for(admin, key)
    with pytest.raises(NotAllowed):
        create_team(actor=actor, name="green")
