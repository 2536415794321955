"""Who may make, see, change and end which API keys, and what a key may be given.

People have their own keys, administrators everybody's. A management key acts as its owner, but what it makes or changes
never exceeds itself: not more instances than it opens, not a longer life, not a right that it lacks. A key that has
limits of its own makes and changes none, as each new key would bring a new allowance.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from accounts.domain import keys as accounts_keys
from accounts.domain.actors import Actor
from accounts.domain.audit import record_change
from accounts.domain.quotas import read_key_limits, set_key_limits
from accounts.domain.rights import is_manager_of_people
from accounts.domain.setup import owner_of_automation
from accounts.enums import KeyKind, PermissionMode
from accounts.errors import InvalidKeyRequest, KeyRefused
from accounts.events import announce_keys_changed
from accounts.models import ApiKey, User
from instances.models import Instance, KeyPermission


def visible_keys(actor: Actor) -> QuerySet[ApiKey]:
    """Return the keys the actor may see, with their owners, newest first: their own, or all for administrators."""
    keys = ApiKey.objects.select_related("user").order_by("-created_at", "-id")
    return keys if is_manager_of_people(actor) or actor.user is None else keys.filter(user=actor.user)


def find_key(actor: Actor, pk: int) -> ApiKey:
    """Return a key the actor may see; raise KeyRefused."""
    key = visible_keys(actor).filter(pk=pk).first() if abs(pk) < 2**63 else None
    if key is None:
        raise KeyRefused("not_found", "API key not found", status=404)
    return key


def usable_instances(owner: User) -> QuerySet[Instance]:
    """Return what a key of this person may list, by id."""
    return Instance.objects.visible_to(owner).order_by("id")


def listed_instances(key: ApiKey) -> list[int]:
    """Return the numbers of the instances that a key lists, in order; none for a key that opens all."""
    if key.permission_mode == PermissionMode.ALLOW_ALL:
        return []
    return list(key.permissions.order_by("instance_id").values_list("instance_id", flat=True))


@transaction.atomic
def create_key(*, actor: Actor, values: Mapping[str, Any]) -> tuple[ApiKey, str]:
    """Make a key with the values of ``read_key_request`` and return it with its secret, which is shown this once.

    ``user`` and ``key`` (an existing secret, for imports) are administrators' to give. Raises KeyRefused.
    """
    owner = find_owner(actor, values)
    plain = values.get("key")
    if plain is not None and not is_manager_of_people(actor):
        raise forbid("Only administrators may import keys.", "key")
    wanted: dict[str, Any] = {
        "kind": accounts_keys.kind_of(plain) if plain else KeyKind.INFERENCE,
        "expires_at": None,
        "can_start": actor.can_start,
        "can_evict": actor.can_evict,
        "note": "",
        "instance_ids": [],
        **values,
    }
    ids, limits = check_instances(owner, wanted["permission_mode"], wanted["instance_ids"]), wanted.get("limits", {})
    require_within(
        actor,
        instances=None if wanted["permission_mode"] == PermissionMode.ALLOW_ALL else ids,
        expires_at=wanted["expires_at"],
        can_start=wanted["can_start"],
        can_evict=wanted["can_evict"],
    )
    names = ("name", "kind", "permission_mode", "expires_at", "note", "can_start", "can_evict")
    try:
        key, secret = accounts_keys.create_key(
            actor=actor,
            user=owner,
            key=plain,
            besides={"instance_ids": ids, "limits": name_limits(limits)},
            **{name: wanted[name] for name in names},
        )
    except InvalidKeyRequest as error:
        raise KeyRefused("invalid_key", str(error), field="key") from error
    KeyPermission.objects.bulk_create(KeyPermission(api_key=key, instance_id=pk) for pk in ids)
    set_key_limits(key, limits)
    return key, secret


@transaction.atomic
def change_key(*, actor: Actor, key: ApiKey, values: Mapping[str, Any]) -> ApiKey:
    """Give a key other values of ``read_key_request``; those that are absent stay. Raises KeyRefused.

    Kind, owner and secret stay for good. It counts at once in every process.
    """
    for name in ("kind", "user", "key"):
        if name in values:
            raise KeyRefused(f"invalid_{name}", f"{name} can't be changed; make another key", field=name)
    row = ApiKey.objects.select_for_update().select_related("user").get(pk=key.pk)
    if row.revoked_at is not None:
        raise KeyRefused("key_revoked", "This key was revoked and can't be changed", status=409)
    require_key_within(actor, row)
    before = describe(row)
    for name in ("name", "note", "permission_mode", "expires_at", "can_start", "can_evict"):
        if name in values:
            setattr(row, name, values[name])
    ids, are_new = listed_instances(row), "instance_ids" in values or "permission_mode" in values
    if are_new:
        ids = check_instances(row.user, row.permission_mode, values.get("instance_ids", ids))
    # Before anything is written: the key may be the actor's own, whose reach must not have grown by then.
    require_within(
        actor,
        instances=None if row.permission_mode == PermissionMode.ALLOW_ALL else ids,
        expires_at=row.expires_at,
        can_start=row.can_start,
        can_evict=row.can_evict,
    )
    if are_new:
        row.permissions.exclude(instance_id__in=ids).delete()
        known = set(row.permissions.values_list("instance_id", flat=True))
        KeyPermission.objects.bulk_create(KeyPermission(api_key=row, instance_id=pk) for pk in ids if pk not in known)
    if "limits" in values:
        set_key_limits(row, values["limits"])
    row.save()
    after = describe(row)
    if after != before:
        record_change(actor=actor, action="key.change", target=row, before=before, after=after)
        announce_keys_changed()
    return row


def rotate_key(*, actor: Actor, key: ApiKey, grace: timedelta = timedelta(0)) -> str:
    """Give a key a new secret and return it; whoever has it can do what the key can. Raises KeyRefused."""
    require_key_within(actor, key)
    try:
        return accounts_keys.rotate_key(actor=actor, key=key, grace=grace)
    except InvalidKeyRequest as error:
        status = 400 if str(error).startswith("grace") else 409
        raise KeyRefused("invalid_grace" if status == 400 else "key_revoked", str(error), status=status) from error


def revoke_key(*, actor: Actor, key: ApiKey) -> None:
    """End a key for good. Raises KeyRefused when the actor's own key, unless it is this one, can do less than it."""
    require_may_end(actor, key)
    accounts_keys.revoke_key(actor=actor, key=key)


def delete_key(*, actor: Actor, key: ApiKey) -> None:
    """Delete a key. Raises as ``revoke_key`` does."""
    require_may_end(actor, key)
    accounts_keys.delete_key(actor=actor, key=key)


def require_may_end(actor: Actor, key: ApiKey) -> None:
    """Raise KeyRefused unless the key is the actor's own, or can do no more than that."""
    if actor.key is None or actor.key.pk != key.pk:
        require_key_within(actor, key)


def describe(key: ApiKey) -> dict[str, Any]:
    """Return what the audit keeps of a key, its instances and limits included."""
    limits = name_limits(read_key_limits(key))
    return {**accounts_keys.describe_key(key), "instance_ids": listed_instances(key), "limits": limits}


def name_limits(limits: Mapping[tuple[str, str], int]) -> dict[str, int]:
    """Return limits by words, as the audit keeps them."""
    return {f"{unit} per {window}": limit for (unit, window), limit in limits.items()}


def find_owner(actor: Actor, values: Mapping[str, Any]) -> User:
    """Return whose a new key shall be. Raises KeyRefused."""
    own = actor.user or owner_of_automation()
    name = values.get("user", own.get_username())
    if name == own.get_username():
        return own
    if not is_manager_of_people(actor):
        raise forbid("Only administrators may make keys for others.", "user")
    owner = User.objects.filter(username=name, is_active=True).first()
    if owner is None:
        raise KeyRefused("invalid_user", f"There is no active user {name[:150]!r}", field="user")
    return owner


def check_instances(owner: User, mode: str, ids: Collection[int]) -> list[int]:
    """Return the instances that a key shall list; raise KeyRefused for none, and for one its owner may not use."""
    if mode == PermissionMode.ALLOW_ALL:
        return []
    if not ids:
        message = "Instance IDs required when permission mode is 'per_instance'"
        raise KeyRefused("missing_permissions", message, field="instance_ids")
    known = set(usable_instances(owner).values_list("pk", flat=True))
    for pk in ids:
        if pk not in known:
            raise KeyRefused("invalid_instance_id", f"Instance ID {pk} does not exist", field="instance_ids")
    return sorted(ids)


def require_key_within(actor: Actor, key: ApiKey) -> None:
    """Raise KeyRefused unless the actor's own key can do all that this one can."""
    require_within(
        actor,
        instances=None if key.permission_mode == PermissionMode.ALLOW_ALL else listed_instances(key),
        expires_at=key.expires_at,
        can_start=key.can_start,
        can_evict=key.can_evict,
    )


def require_within(
    actor: Actor, *, instances: Collection[int] | None, expires_at: datetime | None, can_start: bool, can_evict: bool
) -> None:
    """Raise KeyRefused when a key would exceed the actor's own. ``instances`` None stands for all."""
    own = actor.key
    if own is None:
        return
    if own.is_former:
        raise forbid("This secret was replaced and is good for a while only; it can't make or change keys.", "key")
    if read_key_limits(own):
        raise forbid("A key that has limits can't make or change keys.", "limits")
    if actor.is_limited_to_instances and (instances is None or not set(instances) <= set(listed_instances(own))):
        raise forbid(
            "This key is limited to chosen instances; another one can't open more than it does.", "instance_ids"
        )
    if own.expires_at is not None and (expires_at is None or expires_at > own.expires_at):
        raise forbid("This key expires; another one can't outlast it.", "expires_at")
    if (can_start and not own.can_start) or (can_evict and not own.can_evict):
        raise forbid("This key may not start or push out instances, so another one can't either.", "can_start")


def forbid(message: str, field: str) -> KeyRefused:
    """Return the refusal of what the actor may not do."""
    return KeyRefused("permission_denied", message, status=403, field=field)
