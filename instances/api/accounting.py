"""Who may see which requests and sums, and which of them a query asks for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeVar

from django.db.models import Q, QuerySet
from rest_framework.request import Request

from accounts.api.errors import InvalidParameter
from accounts.api.lists import read_words, require_known
from accounts.domain.actors import Actor
from accounts.enums import RequestOutcome
from accounts.models import ApiKey, HourlyUsage, RequestRecord, User
from instances.models import KeyPermission

Rows = TypeVar("Rows", RequestRecord, HourlyUsage)
STATUS = re.compile(r"[1-5]xx|[0-9]{1,3}")


def limit_to_actor(rows: QuerySet[Rows], actor: Actor) -> QuerySet[Rows]:
    """Return what the actor may see: members their own, others all; a key for chosen instances only what went there."""
    if actor.user is not None and not actor.is_operator:
        rows = rows.filter(user_id=actor.user.pk)
    if actor.is_limited_to_instances:
        chosen = KeyPermission.objects.filter(api_key=actor.key)
        rows = rows.filter(instance_id__in=chosen.values("instance_id"))
    return rows


def filter_rows(rows: QuerySet[Rows], request: Request) -> QuerySet[Rows]:
    """Apply ``user``, ``key`` and ``instance``; each takes several with commas. What doesn't exist is an empty list."""
    if words := read_words(request, "user"):
        rows = rows.filter(match_people(words))
    if words := read_words(request, "key"):
        rows = rows.filter(match_keys(words))
    if words := read_words(request, "instance"):
        rows = rows.filter(instance_name__in=words)
    return rows


def match_people(names: list[str]) -> Q:
    """Match people by name: those who exist whatever their name was then, others by the name that was kept."""
    found = dict(User.objects.filter(username__in=names).values_list("username", "pk"))
    gone = [name for name in names if name not in found]
    return Q(user_id__in=found.values()) | Q(user_name__in=gone) if gone else Q(user_id__in=found.values())


def match_keys(words: list[str]) -> Q:
    """Match keys by number or by name: those that exist whatever their name was then, others by what was kept of them.

    A request keeps of a deleted key what it was shown as, its sums the number too.
    """
    numbers = {int(word) for word in words if word.isascii() and word.isdigit() and len(word) < 19}
    found = numbers.union(ApiKey.objects.filter(name__in=words).values_list("pk", flat=True))
    is_gone = ~Q(key_id__in=ApiKey.objects.values("pk"))
    kept = HourlyUsage.objects.filter(is_gone, key_id__in=numbers).exclude(key_name="")
    shown = kept.order_by().values_list("key_name", flat=True).distinct()
    names = "|".join(re.escape(word) for word in words)
    return Q(key_id__in=found) | is_gone & (Q(key_name__in=shown) | Q(key_name__regex=rf"^({names}) \([^ ]+…\)$"))


def filter_requests(rows: QuerySet[RequestRecord], request: Request) -> QuerySet[RequestRecord]:
    """Apply what only single requests have: ``status``, ``outcome``, ``model`` and ``request_id``.

    Raises InvalidParameter for a status or outcome that can't be.
    """
    if words := read_words(request, "status"):
        rows = rows.filter(match_status(words))
    if words := read_words(request, "outcome"):
        require_known("outcome", words, RequestOutcome.values)
        rows = rows.filter(outcome__in=words)
    if words := read_words(request, "model"):
        rows = rows.filter(requested_model__in=words)
    if words := read_words(request, "request_id"):
        rows = rows.filter(request_id__in=words)
    return rows


def match_status(words: Iterable[str]) -> Q:
    """Match statuses such as ``404`` and classes of them such as ``5xx``; raise InvalidParameter for other words."""
    matched = Q()
    for word in (word.lower() for word in words):
        if not STATUS.fullmatch(word):
            raise InvalidParameter(f"Invalid status parameter: {word[:50]!r} is neither like 404 nor like 4xx.")
        first = int(word.replace("x", "0"))
        matched |= Q(status__range=(first, first + 99)) if word.endswith("xx") else Q(status=first)
    return matched
