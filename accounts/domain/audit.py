"""Writing down who changed what. Every function that changes something for somebody calls ``record_change``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db.models import Model

from accounts.domain.actors import Actor
from accounts.domain.masking import mask_record
from accounts.domain.origins import current_origin
from accounts.models import AuditEntry


def record_change(
    *,
    actor: Actor,
    action: str,
    target: Model | None,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Write an audit entry. Call it in the transaction of the change, so that neither is there without the other.

    ``action`` is the kind of object and a verb: ``instance.create``, ``key.revoke``, ``user.set_password``. Of
    ``before`` and ``after`` (see ``read_fields``) only what differs is kept, objects inside compared key by key; give
    one alone for what was made or deleted. Secrets are masked here. Call it before a deletion, which takes the id.
    """
    if before is not None and after is not None:
        before, after = keep_differences(before, after)
    origin = current_origin()
    AuditEntry.objects.create(
        actor=shorten(actor.label, 150),
        user=actor.user,
        user_name=shorten(actor.user.get_username(), 150) if actor.user else "",
        key_id=actor.key.pk if actor.key else None,
        key_name=shorten(str(actor.key), 150) if actor.key else "",
        source=origin.source,
        client_address=shorten(origin.address, 64),
        request_id=shorten(origin.request_id, 64),
        action=action,
        # As Django names models. Not by type(): the user of a request is a proxy of another type.
        target_type=target.__class__.__name__.lower() if target is not None else "",
        target_id=shorten(str(target.pk), 64) if target is not None and target.pk is not None else "",
        target_label=shorten(str(target), 200) if target is not None else "",
        before=None if before is None else mask_record(before),
        after=None if after is None else mask_record(after),
    )


def read_fields(row: Model, *names: str) -> dict[str, Any]:
    """Return these fields of a row for ``before`` or ``after``; what a foreign key refers to by its text."""
    values = {name: getattr(row, name) for name in names}
    return {name: str(value) if isinstance(value, Model) else value for name, value in values.items()}


def keep_differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return both without what is the same in them, mappings compared key by key."""
    old: dict[str, Any] = {}
    new: dict[str, Any] = {}
    for name in [*before, *(name for name in after if name not in before)]:
        first, second = before.get(name), after.get(name)
        if isinstance(first, Mapping) and isinstance(second, Mapping):
            inner_old, inner_new = keep_differences(first, second)
            old |= {name: inner_old} if inner_old else {}
            new |= {name: inner_new} if inner_new else {}
        elif first != second or (name in before) != (name in after):
            old |= {name: first} if name in before else {}
            new |= {name: second} if name in after else {}
    return old, new


def shorten(text: str, length: int) -> str:
    """Return at most so many characters of a text, without NUL, which PostgreSQL can't take."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")[:length]
