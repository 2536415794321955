"""What can be done with teams. Each change has everybody's rights looked up again, as shares are with teams too."""

from __future__ import annotations

from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from accounts.domain.actors import Actor
from accounts.domain.audit import record_change
from accounts.domain.rights import (
    is_manager_of_people,
    require_admin_to_change,
    require_right_to_leave,
    require_right_to_move,
)
from accounts.errors import InvalidPerson, NameTaken, TeamNotFound
from accounts.events import announce_keys_changed
from accounts.models import Team, User

NAME_LENGTH = 100
LARGEST_ID = 2**31 - 1
"""Of Django's groups; databases refuse to compare with larger numbers."""


def visible_teams(actor: Actor) -> QuerySet[Team]:
    """Return the teams the actor may see, by name: all for administrators, else those they are in."""
    teams = Team.objects.select_related("group").order_by("group__name")
    if is_manager_of_people(actor) or actor.user is None:
        return teams
    return teams.filter(group__in=actor.user.groups.all())


def find_team(actor: Actor, team_id: int) -> Team:
    """Return the team with this id; raise TeamNotFound also when the actor may not see it."""
    team = visible_teams(actor).filter(pk=team_id).first() if 0 < team_id <= LARGEST_ID else None
    if team is None:
        raise TeamNotFound(f"There is no team {team_id}, or you are not in it.")
    return team


@transaction.atomic
def create_team(*, actor: Actor, name: str) -> Team:
    """Make a team without members; raise NotAllowed, InvalidPerson or NameTaken."""
    require_admin_to_change(actor)
    name = check_team_name(name)
    team = Team.objects.create(group=save_group(Group(name=name)))
    record_change(actor=actor, action="team.create", target=team, after={"name": name})
    return team


@transaction.atomic
def rename_team(*, actor: Actor, team: Team, name: str) -> None:
    """Give a team another name; raise NotAllowed, InvalidPerson or NameTaken."""
    require_admin_to_change(actor)
    before, name = team.name, check_team_name(name, team)
    if name == before:
        return
    team.group.name = name
    save_group(team.group)
    record_change(actor=actor, action="team.update", target=team, before={"name": before}, after={"name": name})


@transaction.atomic
def delete_team(*, actor: Actor, team: Team) -> None:
    """Delete a team with the shares it has; its members stay. Raise NotAllowed."""
    require_admin_to_change(actor)
    members = list(team.members.values_list("username", flat=True))
    record_change(actor=actor, action="team.delete", target=team, before={"name": team.name, "members": members})
    team.group.delete()
    announce_keys_changed()


@transaction.atomic
def add_member(*, actor: Actor, team: Team, user: User) -> None:
    """Put a person into a team; nothing happens when they are in it. Raise NotAllowed.

    A manager of the team who is no administrator puts no administrator into it.
    """
    require_right_to_move(actor, team, user)
    if user.groups.filter(pk=team.pk).exists():
        return
    user.groups.add(team.group)
    record_change(actor=actor, action="team.add_member", target=team, after={"member": user.get_username()})
    announce_keys_changed()


@transaction.atomic
def remove_member(*, actor: Actor, team: Team, user: User) -> None:
    """Take a person out of a team, as who may add them can, and everybody themselves. Raise NotAllowed.

    Nothing happens when they are not in it.
    """
    require_right_to_leave(actor, team, user)
    if not user.groups.filter(pk=team.pk).exists():
        return
    user.groups.remove(team.group)
    team.managers.remove(user)
    record_change(actor=actor, action="team.remove_member", target=team, before={"member": user.get_username()})
    announce_keys_changed()


@transaction.atomic
def set_manager(*, actor: Actor, team: Team, user: User, manages: bool) -> None:
    """Make a person a manager of the team, and a member, or a mere member again. Raise NotAllowed."""
    require_admin_to_change(actor)
    before = team.managers.filter(pk=user.pk).exists()
    if manages:
        add_member(actor=actor, team=team, user=user)
    if before == manages:
        return
    if manages:
        team.managers.add(user)
    else:
        team.managers.remove(user)
    who = user.get_username()
    record_change(
        actor=actor,
        action="team.set_manager",
        target=team,
        before={"manager": {who: before}},
        after={"manager": {who: manages}},
    )


def check_team_name(name: str, team: Team | None = None) -> str:
    """Return the name without blanks at its ends; raise InvalidPerson or NameTaken when it won't do."""
    name = name.strip()
    if not name or len(name) > NAME_LENGTH or not name.isprintable():
        raise InvalidPerson(f"name: a team needs a name of 1 to {NAME_LENGTH} printable characters.")
    others = Group.objects.filter(name__iexact=name)
    if (others.exclude(pk=team.pk) if team else others).exists():
        raise NameTaken(f"name: there is a team {name} already.")
    return name


def save_group(group: Group) -> Group:
    """Save a group; raise NameTaken when another got the name in the meantime."""
    try:
        with transaction.atomic():
            group.save()
    except IntegrityError:
        raise NameTaken(f"name: there is a team {group.name} already.") from None
    return group
