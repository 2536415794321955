"""Inviting people by link: the token is shown once, stored as a hash, good for one person and a while."""

from __future__ import annotations

import secrets
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts.domain.actors import Actor, actor_for
from accounts.domain.audit import record_change
from accounts.domain.keys import hash_key
from accounts.domain.people import describe, save_new_user
from accounts.domain.rights import (
    is_manager_of_people,
    require_admin_to_change,
    require_team_manager,
    require_whole_key,
)
from accounts.enums import Registration, Role
from accounts.errors import InvalidPerson, InvitationNotFound, NotAllowed
from accounts.models import Invitation, InvitationQuerySet, Team, User

LONGEST_DAYS = 90
DEFAULT_DAYS = 7


@transaction.atomic
def create_invitation(
    *, actor: Actor, role: Role = Role.MEMBER, team: Team | None = None, note: str = "", days: int = DEFAULT_DAYS
) -> tuple[Invitation, str]:
    """Make an invitation and return it with its token, which is shown this once.

    Managers of a team may invite members into it, administrators everybody. Raises NotAllowed or InvalidPerson.
    """
    require_inviter(actor, role, team)
    if not 1 <= days <= LONGEST_DAYS:
        raise InvalidPerson(f"days: from 1 to {LONGEST_DAYS}.")
    if len(note) > 100 or (note and not note.isprintable()):
        raise InvalidPerson("note: at most 100 printable characters.")
    token = secrets.token_urlsafe(32)
    invitation = Invitation.objects.create(
        token_hash=hash_key(token),
        role=role,
        team=team,
        note=note.strip(),
        created_by=actor.user,
        expires_at=timezone.now() + timedelta(days=days),
    )
    after = {"role": role, "team": team.name if team else None, "note": note, "days": days}
    record_change(actor=actor, action="invitation.create", target=invitation, after=after)
    return invitation, token


def require_inviter(actor: Actor, role: Role, team: Team | None) -> None:
    """Raise NotAllowed unless the actor may invite somebody with this role into this team."""
    if role == Role.MEMBER and team is not None:
        require_team_manager(actor, team)
    else:
        require_admin_to_change(actor)


def visible_invitations(actor: Actor) -> InvitationQuerySet:
    """Return the invitations the actor may see and withdraw, newest first: all, or those into teams they manage."""
    found = InvitationQuerySet(Invitation).select_related("team__group", "created_by", "used_by")
    if is_manager_of_people(actor):
        return found
    if actor.user is None or actor.is_limited_to_instances:
        return found.none()
    return found.filter(Q(team__managers=actor.user), role=Role.MEMBER)


@transaction.atomic
def withdraw_invitation(*, actor: Actor, invitation_id: int) -> None:
    """End an invitation that nobody has accepted; raise InvitationNotFound when there is none, or NotAllowed."""
    invitation = visible_invitations(actor).filter(pk=invitation_id).first()
    if invitation is not None:
        require_whole_key(actor)
    if invitation is None or not end_invitation(invitation, withdrawn_at=timezone.now()):
        raise InvitationNotFound("There is no such invitation, or it was accepted already.")
    record_change(actor=actor, action="invitation.withdraw", target=invitation)


def find_invitation(token: str) -> Invitation:
    """Return the open invitation with this token; raise InvitationNotFound.

    It is worth what its maker may still give: nothing, if they were demoted or shut out since.
    """
    invitation = Invitation.objects.open().select_related("team__group", "created_by")
    found = invitation.filter(token_hash=hash_key(token)).first()
    if found is not None and found.created_by is not None:
        try:
            require_inviter(actor_for(found.created_by), Role(found.role), found.team)
        except NotAllowed:
            found = None
    if found is None:
        raise InvitationNotFound("This invitation was used, withdrawn or is too old. Ask for a new one.")
    return found


@transaction.atomic
def accept_invitation(*, token: str, username: str, password: str, email: str = "") -> User:
    """Make the account that an invitation gives; of two who try at once one gets it.

    Raises InvitationNotFound, or ValidationError when the name or the password won't do; it is good again then.
    """
    invitation = find_invitation(token)
    if not end_invitation(invitation, used_at=timezone.now()):
        raise InvitationNotFound("This invitation was used already. Ask for a new one.")
    user = User(username=username, email=email, role=invitation.role)
    save_new_user(user, password)
    if invitation.team is not None:
        user.groups.add(invitation.team.group)
    Invitation.objects.filter(pk=invitation.pk).update(used_by=user)
    after = {**describe(user), "team": invitation.team.name if invitation.team else None}
    record_change(actor=actor_for(user), action="invitation.accept", target=invitation, after=after)
    return user


def end_invitation(invitation: Invitation, **fields: object) -> bool:
    """Mark an invitation that is still open; return whether this call did it."""
    return Invitation.objects.open().filter(pk=invitation.pk).update(**fields) == 1


@transaction.atomic
def register(*, username: str, password: str, email: str = "") -> User:
    """Make an account for somebody who was not invited, as a member.

    Where ``registration`` is ``approval`` an administrator must let them in. Raises NotAllowed where it is ``off``,
    ValidationError when the name or the password won't do.
    """
    mode = settings.CORRAL.registration
    if mode == Registration.OFF:
        raise NotAllowed("Nobody can register here. Ask an administrator for an invitation.")
    waits = mode == Registration.APPROVAL
    user = User(username=username, email=email, role=Role.MEMBER, is_active=not waits, awaits_approval=waits)
    save_new_user(user, password)
    record_change(actor=actor_for(user), action="user.register", target=user, after=describe(user))
    return user
