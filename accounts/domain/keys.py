"""Making, finding and ending API keys."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime

from django.utils import timezone

from accounts.enums import KeyKind, PermissionMode
from accounts.errors import InvalidKeyRequest
from accounts.events import announce_keys_changed
from accounts.models import ApiKey, User

PREFIXES = {KeyKind.INFERENCE: "corral-", KeyKind.MANAGEMENT: "corral-mgmt-"}


def generate_key(kind: KeyKind) -> str:
    """Return a new secret: a prefix that secret scanners can recognise and 256 random bits in hex."""
    return PREFIXES[kind] + secrets.token_hex(32)


def hash_key(key: str) -> str:
    """Return the SHA-256 of the whole key in hex, as stored and looked up."""
    return hashlib.sha256(key.encode()).hexdigest()


def create_key(
    *,
    user: User,
    name: str,
    kind: KeyKind = KeyKind.INFERENCE,
    permission_mode: PermissionMode = PermissionMode.ALLOW_ALL,
    expires_at: datetime | None = None,
    key: str | None = None,
) -> tuple[ApiKey, str]:
    """Make a key for ``user`` and return the row and the plain key, which is shown this once and never stored.

    ``key`` gives the secret instead of making one (automation); it must have at least 16 characters. A management key
    of a non-administrator can do what its owner can, no more. Raises InvalidKeyRequest naming the field.
    """
    if not name.strip():
        raise InvalidKeyRequest("name: a key needs a name, so that people can tell it from others.")
    if len(name) > 100:
        raise InvalidKeyRequest("name: at most 100 characters.")
    if expires_at is not None and expires_at <= timezone.now():
        raise InvalidKeyRequest("expires_at: the time must be in the future.")
    if key is not None and (len(key) < 16 or not key.isascii() or not key.isprintable() or " " in key):
        raise InvalidKeyRequest("key: at least 16 printable characters without spaces.")
    plain = key or generate_key(kind)
    key_hash = hash_key(plain)
    if ApiKey.objects.filter(key_hash=key_hash).exists():
        raise InvalidKeyRequest("key: this key exists already.")
    prefix = next((p for p in sorted(PREFIXES.values(), key=len, reverse=True) if plain.startswith(p)), "")
    row = ApiKey.objects.create(
        user=user,
        name=name.strip(),
        kind=kind,
        permission_mode=permission_mode,
        expires_at=expires_at,
        key_hash=key_hash,
        key_hint=plain[: len(prefix) + 4],
    )
    announce_keys_changed()  # somebody may have tried it before it existed
    return row, plain


def find_key(plain: str) -> ApiKey | None:
    """Return the usable key with this secret and its user, or None: one indexed look-up, however many keys exist."""
    return ApiKey.objects.usable().select_related("user").filter(key_hash=hash_key(plain)).first()


def revoke_key(*, key: ApiKey) -> None:
    """End a key for good. The row stays as a record."""
    now = timezone.now()
    ApiKey.objects.filter(pk=key.pk, revoked_at__isnull=True).update(revoked_at=now, updated_at=now)
    announce_keys_changed()
