"""Making, finding, changing secrets of, and ending API keys. Who may do it is ``instances/domain/keys.py``'s to say."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from accounts.domain.actors import Actor
from accounts.domain.audit import read_fields, record_change
from accounts.enums import KeyKind, PermissionMode
from accounts.errors import InvalidKeyRequest
from accounts.events import announce_keys_changed
from accounts.models import ApiKey, User

PREFIXES = {KeyKind.INFERENCE: "corral-", KeyKind.MANAGEMENT: "corral-mgmt-"}
IMPORTED_PREFIXES = {KeyKind.INFERENCE: "llamactl-", KeyKind.MANAGEMENT: "llamactl-mgmt-"}
"""What keys of llamactl begin with. They are taken as they are, so that their users notice nothing of a move."""
HINTED = 4
"""Characters after the prefix that are kept to tell keys apart."""
GRACE_AT_MOST = timedelta(days=7)


def generate_key(kind: KeyKind) -> str:
    """Return a new secret: a prefix that secret scanners can recognise and 256 random bits in hex."""
    return PREFIXES[kind] + secrets.token_hex(32)


def hash_key(key: str) -> str:
    """Return the SHA-256 of the whole key in hex, as stored and looked up."""
    return hashlib.sha256(key.encode()).hexdigest()


def find_prefix(key: str) -> str:
    """Return the known prefix of a key, the longest that fits; nothing for keys of another origin."""
    known = [*PREFIXES.values(), *IMPORTED_PREFIXES.values()]
    return max((prefix for prefix in known if key.startswith(prefix)), key=len, default="")


def kind_of(key: str) -> KeyKind:
    """Return what kind of key a secret's prefix says it is."""
    is_management = find_prefix(key) in (PREFIXES[KeyKind.MANAGEMENT], IMPORTED_PREFIXES[KeyKind.MANAGEMENT])
    return KeyKind.MANAGEMENT if is_management else KeyKind.INFERENCE


def create_key(
    *,
    actor: Actor,
    user: User,
    name: str,
    kind: KeyKind = KeyKind.INFERENCE,
    permission_mode: PermissionMode = PermissionMode.ALLOW_ALL,
    expires_at: datetime | None = None,
    key: str | None = None,
    note: str = "",
    can_start: bool = True,
    can_evict: bool = True,
    besides: Mapping[str, Any] | None = None,
) -> tuple[ApiKey, str]:
    """Make a key for ``user`` and return the row and the plain key, which is shown this once and never stored.

    ``key`` gives the secret instead of making one (automation, import); it must have at least 16 characters. A
    management key of a non-administrator can do what its owner can, no more. ``besides`` is what the audit keeps of it
    beside the row: what it lists and its limits, which the caller adds. Raises InvalidKeyRequest naming the field.
    """
    if not name.strip():
        raise InvalidKeyRequest("name: a key needs a name, so that people can tell it from others.")
    if len(name) > 100:
        raise InvalidKeyRequest("name: at most 100 characters.")
    if not name.isprintable():
        raise InvalidKeyRequest("name: printable characters only.")
    if expires_at is not None and expires_at <= timezone.now():
        raise InvalidKeyRequest("expires_at: the time must be in the future.")
    if key is not None and (not 16 <= len(key) <= 256 or not key.isascii() or not key.isprintable() or " " in key):
        raise InvalidKeyRequest("key: 16 to 256 printable ASCII characters without spaces.")
    plain = key or generate_key(kind)
    key_hash = hash_key(plain)
    if ApiKey.objects.filter(Q(key_hash=key_hash) | Q(former_hash=key_hash)).exists():
        raise InvalidKeyRequest("key: this key exists already.")
    try:
        with transaction.atomic():
            row = ApiKey.objects.create(
                user=user,
                name=name,
                kind=kind,
                permission_mode=permission_mode,
                expires_at=expires_at,
                key_hash=key_hash,
                key_hint=make_hint(plain),
                note=note,
                can_start=can_start,
                can_evict=can_evict,
            )
            action = "key.create" if key is None else "key.import"
            record_change(actor=actor, action=action, target=row, after={**describe_key(row), **(besides or {})})
    except IntegrityError:  # somebody else was a moment faster
        raise InvalidKeyRequest("key: this key exists already.") from None
    announce_keys_changed()  # somebody may have tried it before it existed
    return row, plain


def make_hint(plain: str) -> str:
    """Return a secret's first characters."""
    return plain[: len(find_prefix(plain)) + HINTED]


def find_key(plain: str) -> ApiKey | None:
    """Return the usable key with this secret and its user, or None: one indexed look-up, however many keys exist.

    ``is_former`` of the key tells that the secret has been replaced and is good for its grace only.
    """
    digest = hash_key(plain)
    key = ApiKey.objects.usable().with_secret(digest).select_related("user").first()
    if key is not None:
        key.is_former = key.key_hash != digest
    return key


def describe_key(key: ApiKey) -> dict[str, Any]:
    """Return what the audit keeps of a key."""
    return read_fields(
        key,
        "name",
        "note",
        "kind",
        "user",
        "key_hint",
        "permission_mode",
        "can_start",
        "can_evict",
        "expires_at",
        "former_ends_at",
        "revoked_at",
    )


def rotate_key(*, actor: Actor, key: ApiKey, grace: timedelta = timedelta(0)) -> str:
    """Give a key a new secret and return it, this once; the one before dies at once or after the grace.

    Rights, limits and history stay. A secret that was still in its grace from an earlier rotation dies now. Raises
    InvalidKeyRequest for a key that was revoked or has expired, and for a grace beyond a week.
    """
    if not timedelta(0) <= grace <= GRACE_AT_MOST:
        raise InvalidKeyRequest(f"grace: from 0 to {int(GRACE_AT_MOST.total_seconds())} seconds.")
    plain = generate_key(KeyKind(key.kind))
    now = timezone.now()
    with transaction.atomic():
        row = ApiKey.objects.select_for_update().get(pk=key.pk)
        if row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now):
            raise InvalidKeyRequest("This key has ended and can't get a new secret. Make another one.")
        before = describe_key(row)
        row.former_hash, row.former_ends_at = (row.key_hash, now + grace) if grace else (None, None)
        row.key_hash, row.key_hint = hash_key(plain), make_hint(plain)
        row.save(update_fields=["key_hash", "key_hint", "former_hash", "former_ends_at", "updated_at"])
        record_change(actor=actor, action="key.rotate", target=row, before=before, after=describe_key(row))
    key.refresh_from_db()
    announce_keys_changed()
    return plain


def revoke_key(*, actor: Actor, key: ApiKey) -> None:
    """End a key for good. The row stays as a record."""
    with transaction.atomic():
        row = ApiKey.objects.select_for_update().filter(pk=key.pk, revoked_at__isnull=True).first()
        if row is not None:
            row.revoked_at = timezone.now()
            row.save(update_fields=["revoked_at", "updated_at"])
            after = {"revoked_at": row.revoked_at}
            record_change(actor=actor, action="key.revoke", target=row, before={"revoked_at": None}, after=after)
    announce_keys_changed()


def delete_key(*, actor: Actor, key: ApiKey) -> None:
    """Delete a key and its limits; it dies at once. What was done with it stays in the activity under its name."""
    with transaction.atomic():
        record_change(actor=actor, action="key.delete", target=key, before=describe_key(key))
        key.delete()
    announce_keys_changed()
