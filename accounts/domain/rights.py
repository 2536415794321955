"""Who may change people, teams, invitations and limits.

A management key can do what its owner can, but one that ends or is limited must not make more of itself: a new
administrator, another's new password, an invitation or a lifted limit would outlast and exceed it. So it changes none
of these; ``instances/domain/keys.py`` holds the same about keys.
"""

from __future__ import annotations

from accounts.domain.actors import Actor
from accounts.enums import PermissionMode, Role
from accounts.errors import NotAllowed
from accounts.models import ApiKey, Team, User


def is_manager_of_people(actor: Actor) -> bool:
    """Whether the actor may see all people, teams and limits. A key that is limited to instances never may."""
    return actor.is_admin and not actor.is_limited_to_instances


def require_admin(actor: Actor) -> None:
    """Raise NotAllowed unless the actor may see all people, teams and limits."""
    if not is_manager_of_people(actor):
        is_key_short = actor.is_admin and actor.is_limited_to_instances
        but = " This key is limited to instances; use one that is not." if is_key_short else ""
        raise NotAllowed(f"Only administrators may do this.{but}")


def require_admin_to_change(actor: Actor) -> None:
    """Raise NotAllowed unless the actor may change people, every team, and everybody's limits."""
    require_admin(actor)
    require_whole_key(actor)


def require_whole_key(actor: Actor) -> None:
    """Raise NotAllowed when the actor's key ends, or is less than its owner in any way."""
    if actor.key is not None and is_restricted(actor.key):
        raise NotAllowed(
            "A key that ends or is limited in any way can't change people, teams, invitations or limits. "
            "Use one that is not, or the pages."
        )


def is_restricted(key: ApiKey) -> bool:
    """Whether a key has an end, limits, or less than all rights of its owner; a replaced secret ends too."""
    return (
        key.is_former
        or key.expires_at is not None
        or key.permission_mode == PermissionMode.PER_INSTANCE
        or not (key.can_start and key.can_evict)
        or key.quotas.exists()
    )


def may_manage_team(actor: Actor, team: Team) -> bool:
    """Whether the actor may add and remove members of the team and invite into it."""
    if is_manager_of_people(actor):
        return True
    if actor.user is None or not actor.user.is_active or actor.is_limited_to_instances:
        return False
    return team.managers.filter(pk=actor.user.pk).exists()


def require_team_manager(actor: Actor, team: Team) -> None:
    """Raise NotAllowed unless the actor may add and remove members of the team, and invite into it."""
    if not may_manage_team(actor, team):
        raise NotAllowed(f"Only managers of the team {team.name} and administrators may do this.")
    require_whole_key(actor)


def require_right_to_move(actor: Actor, team: Team, user: User) -> None:
    """Raise NotAllowed unless the actor may put this person into the team and take them out.

    A team's limits count for all who are in it, so those who are not administrators don't put any into theirs.
    """
    require_team_manager(actor, team)
    if user.role == Role.ADMIN and not is_manager_of_people(actor):
        raise NotAllowed(
            f"{user.get_username()} is an administrator. Only administrators put them into a team or take them out."
        )


def require_right_to_leave(actor: Actor, team: Team, user: User) -> None:
    """Raise NotAllowed unless the actor may take this person out of the team: everybody may leave by themselves."""
    if actor.user != user:
        require_right_to_move(actor, team, user)
    require_whole_key(actor)
