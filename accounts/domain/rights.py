"""Who may change people and teams."""

from __future__ import annotations

from accounts.domain.actors import Actor
from accounts.errors import NotAllowed
from accounts.models import Team


def is_manager_of_people(actor: Actor) -> bool:
    """Whether the actor may change people and every team. A key that is limited to instances never may."""
    return actor.is_admin and not actor.is_limited_to_instances


def require_admin(actor: Actor) -> None:
    """Raise NotAllowed unless the actor may change people and every team."""
    if not is_manager_of_people(actor):
        raise NotAllowed("Only administrators may do this, and not with a key that is limited to instances.")


def may_manage_team(actor: Actor, team: Team) -> bool:
    """Whether the actor may add and remove members of the team and invite into it."""
    if is_manager_of_people(actor):
        return True
    if actor.user is None or not actor.user.is_active or actor.is_limited_to_instances:
        return False
    return team.managers.filter(pk=actor.user.pk).exists()


def require_team_manager(actor: Actor, team: Team) -> None:
    """Raise NotAllowed unless the actor may add and remove members of the team."""
    if not may_manage_team(actor, team):
        raise NotAllowed(f"Only managers of the team {team.name} and administrators may do this.")
