"""Finding audit entries, and showing what changed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet, TextField
from django.db.models.functions import Cast

from accounts.models import AuditEntry, User

WORDS_AT_MOST = 8
NOTHING = "(nothing)"


@dataclass(frozen=True)
class AuditFilter:
    """Which entries are wanted: those that fit one of the words of each list that isn't empty, and all the rest.

    ``people``: names. ``keys``: numbers, or beginnings of names. ``actions``: such as ``instance.create``, or
    ``instance`` for all of that kind. ``objects``: beginnings of names, or ids. ``since`` is included, ``until`` not.
    ``text``: words that all stand somewhere in the entry.
    """

    people: Sequence[str] = ()
    keys: Sequence[str] = ()
    actions: Sequence[str] = ()
    object_types: Sequence[str] = ()
    objects: Sequence[str] = ()
    object_ids: Sequence[str] = ()
    sources: Sequence[str] = ()
    request_ids: Sequence[str] = ()
    since: datetime | None = None
    until: datetime | None = None
    text: str = ""


def find_entries(wanted: AuditFilter) -> QuerySet[AuditEntry]:
    """Return the entries that are wanted, newest first."""
    rows = AuditEntry.objects.order_by("-id")
    if wanted.people:
        rows = rows.filter(match_people(wanted.people))
    if wanted.keys:
        rows = rows.filter(match_any(wanted.keys, "key_name__istartswith", "key_id"))
    if wanted.actions:
        rows = rows.filter(match_actions(wanted.actions))
    if wanted.object_types:
        rows = rows.filter(target_type__in=wanted.object_types)
    if wanted.objects:
        rows = rows.filter(match_any(wanted.objects, "target_label__istartswith", "target_id"))
    if wanted.object_ids:
        rows = rows.filter(target_id__in=wanted.object_ids)
    if wanted.sources:
        rows = rows.filter(source__in=wanted.sources)
    if wanted.request_ids:
        rows = rows.filter(request_id__in=wanted.request_ids)
    if wanted.since is not None:
        rows = rows.filter(created_at__gte=wanted.since)
    if wanted.until is not None:
        rows = rows.filter(created_at__lt=wanted.until)
    if wanted.text.strip():
        rows = match_text(rows, wanted.text)
    return rows


def match_people(names: Sequence[str]) -> Q:
    """Match people by name: those who exist whatever their name was then, others by the name that was kept."""
    found = dict(User.objects.filter(username__in=names).values_list("username", "pk"))
    return Q(user_id__in=found.values()) | Q(user_name__in=[name for name in names if name not in found])


def match_actions(words: Sequence[str]) -> Q:
    """Match actions, or all actions on a kind of object."""
    matched = Q(action__in=words)
    for word in words:
        matched |= Q(action__startswith=f"{word}.")
    return matched


def match_any(words: Sequence[str], name_column: str, id_column: str) -> Q:
    """Match the beginning of a name, or an id."""
    matched = Q()
    for word in words:
        matched |= Q(**{name_column: word})
        if word.isascii() and word.isdigit() and len(word) < 19:
            matched |= Q(**{id_column: int(word)})
    return matched


def match_text(rows: QuerySet[AuditEntry], text: str) -> QuerySet[AuditEntry]:
    """Return the rows in which every word stands somewhere, among what changed too."""
    rows = rows.annotate(before_text=Cast("before", TextField()), after_text=Cast("after", TextField()))
    columns = ("actor", "key_name", "action", "target_label", "client_address", "request_id")
    for word in text.split()[:WORDS_AT_MOST]:
        matched = Q(before_text__icontains=word) | Q(after_text__icontains=word)
        for column in columns:
            matched |= Q(**{f"{column}__icontains": word})
        rows = rows.filter(matched)
    return rows


def list_actions() -> list[str]:
    """Return the actions there are entries of, by name."""
    return list(AuditEntry.objects.order_by("action").values_list("action", flat=True).distinct())


def describe_entry(entry: AuditEntry) -> dict[str, Any]:
    """Return an entry as the API and the export show it."""
    return {
        "id": entry.pk,
        "created_at": entry.created_at.timestamp(),
        "actor": entry.actor,
        "user": entry.user_name or None,
        "key": entry.key_name or None,
        "key_id": entry.key_id,
        "source": entry.source,
        "client_address": entry.client_address or None,
        "request_id": entry.request_id or None,
        "action": entry.action,
        "target_type": entry.target_type or None,
        "target_id": entry.target_id or None,
        "target": entry.target_label or None,
        "before": entry.before,
        "after": entry.after,
    }


@dataclass(frozen=True)
class Change:
    """One value that changed, as texts: the path to it, what it was, and what it is; None where there was nothing."""

    name: str
    before: str | None
    after: str | None


def list_changes(entry: AuditEntry) -> list[Change]:
    """Return what an entry says changed, value by value, objects inside opened, by name."""
    old, new = flatten(entry.before or {}), flatten(entry.after or {})
    return [Change(name, old.get(name), new.get(name)) for name in sorted({*old, *new})]


def flatten(record: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return the values of a record by their path, as texts."""
    found: dict[str, str] = {}
    for name, value in record.items():
        if isinstance(value, Mapping) and value:
            found |= flatten(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = show_value(value)
    return found


def show_value(value: object) -> str:
    """Return a value as a person reads it."""
    if value is None or value in ("", [], {}):
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
