"""Quotas: who is limited to what, and how much of it is used by what the database knows."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import Count, F, Q, QuerySet, Sum

from accounts.domain.actors import Actor
from accounts.domain.audit import record_change
from accounts.domain.rights import require_admin_to_change
from accounts.domain.windows import find_window
from accounts.enums import QuotaUnit, QuotaWindow, RequestOutcome
from accounts.errors import QuotaRefused
from accounts.events import announce_keys_changed
from accounts.models import ApiKey, HourlyUsage, Quota, RequestRecord, User
from accounts.models.quota import NOBODY

LARGEST = 10**15
ORDER = [(unit, window) for unit in QuotaUnit.values for window in QuotaWindow.values]


@dataclass(frozen=True)
class Limit:
    """A quota as it counts for somebody. ``counter`` names what is counted: ``user:5:requests:day``."""

    quota: Quota
    counter: str
    limit: int

    @property
    def unit(self) -> Any:
        """What is counted, one of ``QuotaUnit``."""
        return self.quota.unit

    @property
    def window(self) -> Any:
        """In which span, one of ``QuotaWindow``."""
        return self.quota.window

    @property
    def whose(self) -> str:
        """Whose limit it is, for the one it stops."""
        if self.quota.key is not None:
            return "this key"
        return f"the team {self.quota.group}" if self.quota.group is not None else "your account"


@dataclass(frozen=True)
class LimitUse:
    """A limit and how much of it is used in the current window, which ends at ``resets_at``."""

    limit: Limit
    used: int
    resets_at: datetime

    @property
    def remaining(self) -> int:
        """What is left."""
        return max(0, self.limit.limit - self.used)

    @property
    def share(self) -> int:
        """What is used, in hundredths of the limit, at most 100."""
        return min(100, self.used * 100 // self.limit.limit) if self.limit.limit else 100


def find_limits(user: User, key: ApiKey | None = None) -> list[Limit]:
    """Return what limits a person's requests (with a key): their own limits or everybody's, their teams', the key's.

    One query.
    """
    concerned = Q(user=user) | Q(group__in=user.groups.all()) | NOBODY
    if key is not None:
        concerned |= Q(key=key)
    quotas = list(Quota.objects.filter(concerned).select_related("group", "key"))
    own = {(quota.unit, quota.window) for quota in quotas if quota.user_id is not None}
    found = []
    for quota in quotas:
        is_for_everybody = quota.user_id is None and quota.group_id is None and quota.key_id is None
        if quota.limit is None or (is_for_everybody and (quota.unit, quota.window) in own):
            continue
        subject = name_subject(quota, user)
        found.append(Limit(quota, f"{subject}:{quota.unit}:{quota.window}", quota.limit))
    return sorted(found, key=lambda limit: ORDER.index((limit.quota.unit, limit.quota.window)))


def name_subject(quota: Quota, user: User) -> str:
    """Return whose use a quota counts: ``key:3``, ``group:2``, or the person's own."""
    if quota.key_id is not None:
        return f"key:{quota.key_id}"
    return f"group:{quota.group_id}" if quota.group_id is not None else f"user:{user.pk}"


def find_use(limits: Iterable[Limit], now: float | None = None) -> list[LimitUse]:
    """Return how much is used of each limit, by what has been recorded: about a second behind."""
    limits = list(limits)
    moment = time.time() if now is None else now
    spans = {limit.counter: find_window(limit.quota.window, moment) for limit in limits}
    used = count_used({counter: begins for counter, (begins, _) in spans.items()})
    return [
        LimitUse(limit, used[limit.counter], datetime.fromtimestamp(spans[limit.counter][1], UTC)) for limit in limits
    ]


def count_used(counters: Mapping[str, float]) -> dict[str, int]:
    """Return what each counter stands at since its window began (seconds since the epoch), by what was recorded.

    A few queries however many counters there are. Raises `django.db.DatabaseError`.
    """
    asked: dict[tuple[str, str, float], set[int]] = {}
    for counter, begins in counters.items():
        kind, pk, _, window = counter.split(":")
        asked.setdefault((kind, window, begins), set()).add(int(pk))
    sums = {question: sum_use(question[0], ids, question[1], question[2]) for question, ids in asked.items()}
    found = {}
    for counter, begins in counters.items():
        kind, pk, unit, window = counter.split(":")
        requests, tokens = sums[kind, window, begins].get(int(pk), (0, 0))
        found[counter] = requests if unit == QuotaUnit.REQUESTS else tokens
    return found


def sum_use(kind: str, ids: Collection[int], window: str, begins: float) -> dict[int, tuple[int, int]]:
    """Return the requests and tokens of people, keys or teams since a window began, by id."""
    if kind != "group":
        return sum_rows("user_id" if kind == "user" else "key_id", ids, window, begins)
    members = list(User.groups.through.objects.filter(group_id__in=ids).values_list("group_id", "user_id"))
    people = sum_rows("user_id", {user_id for _, user_id in members}, window, begins)
    teams: dict[int, tuple[int, int]] = {}
    for group_id, user_id in members:
        requests, tokens = teams.get(group_id, (0, 0))
        more_requests, more_tokens = people.get(user_id, (0, 0))
        teams[group_id] = requests + more_requests, tokens + more_tokens
    return teams


def sum_rows(column: str, ids: Collection[int], window: str, begins: float) -> dict[int, tuple[int, int]]:
    """Return the sums by a column: of the hours, and for a minute of the requests themselves."""
    start = datetime.fromtimestamp(begins, UTC)
    chosen = {f"{column}__in": ids}
    tokens = Sum(F("prompt_tokens") + F("completion_tokens"))
    rows: QuerySet[Any, Any]
    if window == QuotaWindow.MINUTE:
        records = RequestRecord.objects.filter(finished_at__gte=start, **chosen)
        rows = records.exclude(outcome=RequestOutcome.REFUSED).order_by().values(column)
        rows = rows.annotate(counted=Count("pk"), tokens=tokens)
    else:
        hours = HourlyUsage.objects.filter(hour__gte=start, **chosen).order_by().values(column)
        rows = hours.annotate(counted=Sum(F("requests") - F("refused")), tokens=tokens)
    return {row[column]: (row["counted"], row["tokens"]) for row in rows}


@transaction.atomic
def set_quota(
    *, actor: Actor, unit: str, window: str, limit: int | None, user: User | None = None, group: Group | None = None
) -> Quota:
    """Set a limit for a person, a team, or with neither for everybody; None frees a person from everybody's limit.

    It counts at once in every process. Administrators only. Raises NotAllowed or QuotaRefused.
    """
    require_admin_to_change(actor)
    check_limit(unit, window, limit)
    if limit is None and user is None:
        raise QuotaRefused("limit: only a person can be freed from a limit. Delete the limit instead.")
    known = Quota.objects.select_for_update().filter(user=user, group=group, key=None, unit=unit, window=window).first()
    if known is not None:
        return change_quota(actor=actor, quota=known, limit=limit)
    quota = Quota.objects.create(user=user, group=group, unit=unit, window=window, limit=limit)
    record_change(actor=actor, action="quota.create", target=quota, after={"limit": limit})
    announce_keys_changed()
    return quota


@transaction.atomic
def change_quota(*, actor: Actor, quota: Quota, limit: int | None) -> Quota:
    """Change how much may be used. Administrators only. Raises NotAllowed or QuotaRefused."""
    require_admin_to_change(actor)
    check_limit(quota.unit, quota.window, limit)
    if limit is None and quota.user_id is None:
        raise QuotaRefused("limit: only a person can be freed from a limit. Delete the limit instead.")
    before, quota.limit = {"limit": quota.limit}, limit
    if before["limit"] == limit:
        return quota
    quota.save(update_fields=["limit", "updated_at"])
    record_change(actor=actor, action="quota.change", target=quota, before=before, after={"limit": limit})
    announce_keys_changed()
    return quota


@transaction.atomic
def delete_quota(*, actor: Actor, quota: Quota) -> None:
    """End a limit. Administrators only. Raises NotAllowed."""
    require_admin_to_change(actor)
    record_change(actor=actor, action="quota.delete", target=quota, before={"limit": quota.limit})
    quota.delete()
    announce_keys_changed()


def read_key_limits(key: ApiKey) -> dict[tuple[str, str], int]:
    """Return a key's own limits by unit and window."""
    return {(quota.unit, quota.window): quota.limit or 0 for quota in Quota.objects.filter(key=key)}


def set_key_limits(key: ApiKey, limits: Mapping[tuple[str, str], int]) -> None:
    """Replace a key's limits. Whoever calls it does so in a transaction, writes the audit and announces the change."""
    for quota in Quota.objects.filter(key=key):
        if (quota.unit, quota.window) not in limits:
            quota.delete()
    for (unit, window), limit in limits.items():
        Quota.objects.update_or_create(key=key, unit=unit, window=window, defaults={"limit": limit})


def check_limit(unit: str, window: str, limit: int | None) -> None:
    """Raise QuotaRefused naming what can't be used."""
    if unit not in QuotaUnit.values:
        raise QuotaRefused("unit: it must be requests or tokens.")
    if window not in QuotaWindow.values:
        raise QuotaRefused("window: it must be minute, day or month.")
    if limit is not None and not 0 <= limit <= LARGEST:
        raise QuotaRefused(f"limit: it must be a whole number from 0 to {LARGEST}.")
