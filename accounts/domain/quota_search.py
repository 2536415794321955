"""Which limits somebody may look at, and finding the one that is meant."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth.models import Group
from django.db.models import QuerySet

from accounts.domain.actors import Actor
from accounts.domain.quotas import Limit, LimitUse, find_limits, find_use
from accounts.domain.rights import is_manager_of_people
from accounts.errors import QuotaNotFound, QuotaRefused
from accounts.models import Quota, User


@dataclass(frozen=True)
class QuotaState:
    """A quota and what is used of it; None for one that counts for each person apart, and for no limit at all."""

    quota: Quota
    use: LimitUse | None


def list_limits_of(user: User) -> list[LimitUse]:
    """Return what limits a person and each of their keys, with what is used."""
    limits = find_limits(user)
    own_keys = Quota.objects.filter(key__user=user, key__revoked_at__isnull=True).select_related("key")
    return find_use([*limits, *(limit for quota in own_keys if (limit := as_limit(quota)) is not None)])


def list_all() -> list[QuotaState]:
    """Return every quota with what is used of it: everybody's first, then people's, teams' and living keys'."""
    quotas = list(Quota.objects.exclude(key__revoked_at__isnull=False).select_related("user", "group", "key"))
    quotas.sort(key=lambda quota: (quota.key_id or 0, quota.group_id or 0, quota.user_id or 0, quota.unit))
    found = {quota.pk: limit for quota in quotas if (limit := as_limit(quota)) is not None}
    uses = {use.limit.quota.pk: use for use in find_use(found.values())}
    return [QuotaState(quota, uses.get(quota.pk)) for quota in quotas]


def as_limit(quota: Quota) -> Limit | None:
    """Return a quota as something that is counted for its subject; None for everybody's and for no limit."""
    ids = {"user": quota.user_id, "group": quota.group_id, "key": quota.key_id}
    subject = next((f"{kind}:{pk}" for kind, pk in ids.items() if pk is not None), None)
    if subject is None or quota.limit is None:
        return None
    return Limit(quota, f"{subject}:{quota.unit}:{quota.window}", quota.limit)


def find_quota(actor: Actor, pk: int) -> Quota:
    """Return a quota by its number, for those who may change it. Raises QuotaNotFound."""
    quotas: QuerySet[Quota] = Quota.objects.select_related("user", "group", "key")
    found = quotas.filter(pk=pk).first() if is_manager_of_people(actor) and pk < 2**63 else None
    if found is None:
        raise QuotaNotFound("There is no such limit, or it is not yours to change.")
    return found


def find_holder(*, user: str, team: str) -> tuple[User | None, Group | None]:
    """Return the person or the team of a name; neither where both are empty. Raises QuotaRefused."""
    if user and team:
        raise QuotaRefused("user: name a person or a team, not both.")
    person = User.objects.filter(username=user).first() if user else None
    group = Group.objects.filter(name=team).first() if team else None
    if user and person is None:
        raise QuotaRefused(f"user: there is nobody called {user[:150]!r}.")
    if team and group is None:
        raise QuotaRefused(f"team: there is no team called {team[:150]!r}.")
    return person, group
