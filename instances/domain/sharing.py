"""Who else may use an instance, and whose it is. Whoever may change an instance may share it and give it away."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import F, QuerySet

from accounts.domain.actors import Actor
from accounts.domain.audit import read_fields, record_change
from accounts.events import announce_keys_changed
from accounts.models import User
from instances.domain.access import has_level, require_level, require_right_to_share
from instances.domain.lifecycle import lock_row
from instances.domain.transitions import record_event
from instances.enums import ShareLevel
from instances.errors import InvalidShare, UnknownHolder
from instances.models import Instance, InstanceEvent, InstanceShare

VERBS = {ShareLevel.USE: "use", ShareLevel.OPERATE: "operate", ShareLevel.MANAGE: "manage"}
SHARING = ("shared", "unshared", "owner")
"""Kinds of events that name people or teams."""


def list_shares(*, actor: Actor, instance: Instance) -> QuerySet[InstanceShare]:
    """Return whom the instance is shared with, people first, by name. Needs the level ``manage``."""
    require_level(actor, instance, ShareLevel.MANAGE)
    shares = instance.shares.select_related("user", "group")
    return shares.order_by(F("user__username").asc(nulls_last=True), "group__name")


def find_person(name: str) -> User:
    """Return the person of this name; raise UnknownHolder when there is none."""
    found = User.objects.filter(username=name.replace("\0", "")).first()
    if found is None:
        message = f"user: there is nobody called {name[:150]!r}."
        raise UnknownHolder(message, fields={"user": message})
    return found


def find_team(name: str) -> Group:
    """Return the team of this name; raise UnknownHolder when there is none."""
    found = Group.objects.filter(name=name.replace("\0", "")).first()
    if found is None:
        message = f"team: there is no team called {name[:150]!r}."
        raise UnknownHolder(message, fields={"team": message})
    return found


def read_level(value: object) -> ShareLevel:
    """Return the level that a client names; raise InvalidShare for anything else."""
    if isinstance(value, str) and value in ShareLevel.values:
        return ShareLevel(value)
    message = f"level: must be one of {', '.join(ShareLevel.values)}."
    raise InvalidShare(message, fields={"level": message})


def share_instance(*, actor: Actor, instance: Instance, holder: User | Group, level: ShareLevel) -> InstanceShare:
    """Let a person or a team do with the instance what ``level`` allows, no more and no less than that.

    Counts at once, everywhere. Needs the level ``manage``. Raises PermissionDenied, InstanceNotFound, or InvalidShare
    for the owner, who may do everything as it is, and for people who are not active any more.
    """
    require_right_to_share(actor, instance)
    if isinstance(holder, User):
        check_active("user", holder)
    with transaction.atomic():
        row = lock_row(instance.pk)
        if isinstance(holder, User) and row.owner_id == holder.pk:
            message = f"user: {holder} owns {row.name} and may do everything with it."
            raise InvalidShare(message, fields={"user": message})
        share = row.shares.filter(**held_by(holder)).first()
        if share is None or share.level != level:
            before = {name_holder(holder): share.level} if share else {}
            share, _ = row.shares.update_or_create(defaults={"level": level}, **held_by(holder))
            after = {name_holder(holder): level.value}
            record_change(actor=actor, action="instance.share", target=row, before=before, after=after)
            announce(row, actor=actor, kind="shared", reason=f"{name_holder(holder)} may {VERBS[level]} it")
    return share


def unshare_instance(*, actor: Actor, instance: Instance, holder: User | Group) -> None:
    """Take a share back, which ends what was open by it; without one nothing changes.

    Needs the level ``manage``. Raises PermissionDenied or InstanceNotFound.
    """
    require_right_to_share(actor, instance)
    with transaction.atomic():
        row = lock_row(instance.pk)
        if share := row.shares.filter(**held_by(holder)).first():
            before = {name_holder(holder): share.level}
            record_change(actor=actor, action="instance.unshare", target=row, before=before)
            share.delete()
            announce(row, actor=actor, kind="unshared", reason=f"no longer with {name_holder(holder)}")


def change_owner(*, actor: Actor, instance: Instance, owner: User) -> Instance:
    """Give the instance to another person, and return it; who owned it keeps what shares and their role give.

    What an administrator has granted stays granted. Needs the level ``manage``. Raises PermissionDenied,
    InstanceNotFound, or InvalidShare for somebody who can't sign in any more.
    """
    require_right_to_share(actor, instance)
    check_active("owner", owner)
    with transaction.atomic():
        row = lock_row(instance.pk)
        if row.owner_id != owner.pk:
            before = read_fields(row, "owner")
            row.owner = owner
            row.save(update_fields=["owner", "updated_at"])
            after = read_fields(row, "owner")
            record_change(actor=actor, action="instance.change_owner", target=row, before=before, after=after)
            row.shares.filter(user=owner).delete()
            announce(row, actor=actor, kind="owner", reason=f"belongs to {owner}")
    return row


def visible_events(actor: Actor, instance: Instance) -> QuerySet[InstanceEvent]:
    """Return what happened to an instance, newest first, as far as the actor may know.

    Names of people and teams are for those who manage it, so others don't see with whom it is or was shared.
    """
    events = instance.events.order_by("-id")
    return events if has_level(actor, instance, ShareLevel.MANAGE) else events.exclude(kind__in=SHARING)


def check_active(field: str, person: User) -> None:
    """Raise InvalidShare for somebody who can't sign in any more."""
    if not person.is_active:
        message = f"{field}: {person} is not active any more; choose somebody else."
        raise InvalidShare(message, fields={field: message})


def announce(row: Instance, *, actor: Actor, kind: str, reason: str) -> None:
    """Write down what changed and have everybody's rights looked up again."""
    record_event(row, kind=kind, actor=actor.label, reason=reason)
    announce_keys_changed()


def held_by(holder: User | Group) -> dict[str, Any]:
    """Return the columns of a share that say whose it is."""
    return {"user": holder} if isinstance(holder, User) else {"group": holder}


def name_holder(holder: User | Group) -> str:
    """Return a person's name, or a team's as such."""
    return holder.get_username() if isinstance(holder, User) else f"team {holder.name}"
