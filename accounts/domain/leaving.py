"""Letting people in, and out: approval, deactivation, deletion."""

from __future__ import annotations

from django.db import transaction
from django.dispatch import Signal

from accounts.domain.actors import Actor
from accounts.domain.administrators import require_another_administrator
from accounts.domain.audit import record_change
from accounts.domain.people import describe, require_other_person
from accounts.domain.rights import require_admin_to_change
from accounts.domain.sessions import end_sessions
from accounts.errors import InvalidPerson
from accounts.events import announce_keys_changed
from accounts.models import Invitation, User

person_leaves = Signal()
"""Sent before a person is deleted, in the same transaction, with ``actor``, ``user`` and ``heir`` (perhaps None).

A receiver passes on what the person owns, or raises an AccountError when it can't be done."""


@transaction.atomic
def deactivate_user(*, actor: Actor, user: User) -> None:
    """Shut a person out: no sign-in, sessions ended, keys without effect, all at once.

    Raises NotAllowed or LastAdministrator.
    """
    require_admin_to_change(actor)
    require_other_person(actor, user, "deactivate")
    require_another_administrator(user)
    set_active(actor, user, active=False)
    end_sessions(actor=actor, user=user)
    announce_keys_changed()


@transaction.atomic
def activate_user(*, actor: Actor, user: User) -> None:
    """Let a person in who was deactivated or waits for approval; their keys open again. Raises NotAllowed."""
    require_admin_to_change(actor)
    set_active(actor, user, active=True)
    announce_keys_changed()


def set_active(actor: Actor, user: User, *, active: bool) -> None:
    """Write whether the person may come in, and an audit entry if that is new."""
    user.refresh_from_db()
    before = {"is_active": user.is_active, "awaits_approval": user.awaits_approval}
    user.is_active, user.awaits_approval = active, False
    user.save(update_fields=["is_active", "awaits_approval"])
    after = {"is_active": active, "awaits_approval": False}
    if before != after:
        action = "user.activate" if active else "user.deactivate"
        record_change(actor=actor, action=action, target=user, before=before, after=after)


@transaction.atomic
def delete_user(*, actor: Actor, user: User, heir: User | None = None) -> None:
    """Delete a person, their keys and sessions; what they own passes to ``heir``, by default to who deletes.

    Raises NotAllowed, LastAdministrator, or InvalidPerson when there must be an heir and is none that will do.
    """
    require_admin_to_change(actor)
    require_other_person(actor, user, "delete")
    require_another_administrator(user)
    heir = heir or actor.user
    if heir is not None and (heir.pk == user.pk or not heir.is_active):
        raise InvalidPerson("heir: it must be another person, who is active.")
    person_leaves.send(sender=User, actor=actor, user=user, heir=heir)
    Invitation.objects.open().filter(created_by=user).delete()
    end_sessions(actor=actor, user=user)
    after = {"heir": heir.get_username()} if heir else None
    record_change(actor=actor, action="user.delete", target=user, before=describe(user), after=after)
    user.delete()
    announce_keys_changed()
