"""Whom a limit concerns, what is counted of it, and the API."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction

from accounts.domain.actors import CORRAL
from accounts.domain.keys import create_key
from accounts.domain.quotas import count_used, find_limits, set_key_limits, set_quota
from accounts.domain.windows import find_window
from accounts.models import AuditEntry, HourlyUsage, Quota, RequestRecord, User
from tests.conftest import ApiClient
from tests.factories import make_user


def limit(value: int | None, unit: str = "requests", window: str = "day", **holder: Any) -> Quota:
    return set_quota(actor=CORRAL, unit=unit, window=window, limit=value, **holder)


def found(user: User, **options: Any) -> dict[str, int]:
    return {one.counter: one.limit for one in find_limits(user, **options)}


def test_everybodys_limit_gives_way_to_a_persons_own_and_to_none(member: User, operator: User) -> None:
    limit(10)
    limit(5, "tokens")
    assert found(member) == {f"user:{member.pk}:requests:day": 10, f"user:{member.pk}:tokens:day": 5}
    limit(100, user=member)
    assert found(member)[f"user:{member.pk}:requests:day"] == 100
    limit(None, user=member)
    assert found(member) == {f"user:{member.pk}:tokens:day": 5}
    assert found(operator)[f"user:{operator.pk}:requests:day"] == 10


def test_teams_and_the_key_limit_besides(member: User) -> None:
    team, other = Group.objects.create(name="research"), Group.objects.create(name="other")
    member.groups.add(team)
    limit(7, group=team)
    limit(1, group=other)
    key, _ = create_key(actor=CORRAL, user=member, name="k")
    set_key_limits(key, {("tokens", "month"): 9})
    assert found(member) == {f"group:{team.pk}:requests:day": 7}
    assert found(member, key=key) == {f"group:{team.pk}:requests:day": 7, f"key:{key.pk}:tokens:month": 9}
    assert [one.whose for one in find_limits(member, key)] == ["the team research", "this key"]


def test_the_database_holds_one_limit_of_a_kind_for_each(member: User) -> None:
    for holder in ({"user": member}, {}):
        limit(1, **holder)
        with pytest.raises(IntegrityError), transaction.atomic():
            Quota.objects.create(unit="requests", window="day", limit=2, **holder)
    with pytest.raises(IntegrityError), transaction.atomic():
        Quota.objects.create(user=member, group=Group.objects.create(name="g"), unit="tokens", window="day", limit=2)


def test_what_is_used_is_counted_in_its_window_and_without_refusals(member: User, operator: User) -> None:
    now = datetime.now(UTC)
    hour = now.replace(minute=0, second=0, microsecond=0)
    team = Group.objects.create(name="t")
    team.user_set.add(member, operator)
    key, _ = create_key(actor=CORRAL, user=member, name="k")

    def use(user: User, at: datetime, requests: int, *, refused: int = 0, key_id: int = 0, instance: int = 1) -> None:
        tokens = {"prompt_tokens": 100 * requests, "completion_tokens": requests}
        HourlyUsage.objects.create(
            hour=at, user_id=user.pk, key_id=key_id, instance_id=instance, requests=requests + refused,
            refused=refused, **tokens,
        )  # fmt: skip

    day, month = (find_window(window, now.timestamp())[0] for window in ("day", "month"))
    use(member, hour, 3, refused=4)
    use(member, hour, 2, key_id=key.pk, instance=2)
    use(operator, hour, 10)
    use(member, datetime.fromtimestamp(month, UTC) - timedelta(hours=1), 50)
    minute = find_window("minute", now.timestamp())[0]
    for outcome, at in (("answered", minute), ("refused", minute), ("cancelled", minute + 1), ("answered", minute - 1)):
        RequestRecord.objects.create(
            finished_at=datetime.fromtimestamp(at, UTC), user=member, path="/v1/x", method="POST", status=200,
            outcome=outcome, prompt_tokens=5, completion_tokens=1, duration_ms=1,
        )  # fmt: skip

    person, team_name, key_name = f"user:{member.pk}", f"group:{team.pk}", f"key:{key.pk}"
    assert count_used({
        f"{person}:requests:day": day, f"{person}:tokens:day": day, f"{person}:requests:month": month,
        f"{person}:requests:minute": minute, f"{person}:tokens:minute": minute,
        f"{team_name}:requests:day": day, f"{key_name}:tokens:month": month, "user:999999:requests:day": day,
    }) == {
        f"{person}:requests:day": 5, f"{person}:tokens:day": 505, f"{person}:requests:month": 5,
        f"{person}:requests:minute": 2, f"{person}:tokens:minute": 12,
        f"{team_name}:requests:day": 15, f"{key_name}:tokens:month": 202, "user:999999:requests:day": 0,
    }  # fmt: skip


# The API


def test_people_see_their_own_limits_and_what_is_left_and_administrators_all(
    api: ApiClient, member: User, api_of: Callable[[User], ApiClient]
) -> None:
    mine = api_of(member)
    made = api("POST", "quotas", {"user": "mia", "unit": "requests", "window": "day", "limit": 12})
    assert made.status_code == 201
    api("POST", "quotas", {"unit": "tokens", "window": "minute", "limit": 500})
    day = find_window("day", time.time())
    HourlyUsage.objects.create(hour=datetime.fromtimestamp(day[0], UTC), user_id=member.pk, requests=5)

    first, second = mine("GET", "quotas").json()
    assert (first["user"], first["limit"], first["used"], first["remaining"]) == ("mia", 12, 5, 7)
    assert first["resets_at"] == int(day[1])
    assert (second["user"], second["unit"], second["used"]) == (None, "tokens", 0)
    assert len(api("GET", "quotas").json()) == 2
    assert api("GET", "quotas?user=mia").json() == [first, second]
    assert mine("GET", "quotas?user=mia").json() == [first, second]
    assert mine("GET", "quotas?user=ada").status_code == 403
    assert api("GET", "quotas?user=nobody").status_code == 404

    for method, body in (("PATCH", {"limit": 1}), ("DELETE", None)):
        assert mine(method, f"quotas/{first['id']}", body).status_code == 404
    assert mine("POST", "quotas", {"unit": "tokens", "window": "day", "limit": 1}).status_code == 403
    assert api("PATCH", f"quotas/{first['id']}", {"limit": None}).json()["limit"] is None
    assert [one["unit"] for one in mine("GET", "quotas").json()] == ["tokens"]
    assert api("DELETE", f"quotas/{first['id']}").status_code == 204
    actions = AuditEntry.objects.filter(target_type="quota").order_by("id").values_list("action", flat=True)
    assert list(actions) == ["quota.create", "quota.create", "quota.change", "quota.delete"]


@pytest.mark.parametrize(
    ("body", "details"),
    [
        ({"unit": "apples", "window": "day", "limit": 1}, "unit: it must be requests or tokens."),
        ({"window": "day", "limit": 1}, "unit: it must be requests or tokens."),
        ({"unit": "tokens", "window": "year", "limit": 1}, "window: it must be minute, day or month."),
        ({"unit": "tokens", "window": 5, "limit": 1}, "window: it must be a text."),
        ({"unit": "tokens", "window": "day"}, "limit: it must be a whole number from 0 to"),
        ({"unit": "tokens", "window": "day", "limit": True}, "limit: it must be a whole number from 0 to"),
        ({"unit": "tokens", "window": "day", "limit": -1}, "limit: it must be a whole number from 0 to"),
        ({"unit": "tokens", "window": "day", "limit": 10**30}, "limit: it must be a whole number from 0 to"),
        ({"unit": "tokens", "window": "day", "limit": None}, "limit: only a person can be freed from a limit."),
        ({"user": "x", "unit": "tokens", "window": "day", "limit": 1}, "user: there is nobody called 'x'."),
        ({"team": "x", "unit": "tokens", "window": "day", "limit": 1}, "team: there is no team called 'x'."),
        ({"user": "x", "team": "x", "unit": "tokens", "window": "day", "limit": 1}, "user: name a person or a team"),
        ([], "Invalid request body: it must be a JSON object."),
    ],
)
def test_a_limit_that_cannot_be_is_refused_in_words(api: ApiClient, body: object, details: str) -> None:
    answer = api("POST", "quotas", body)
    assert answer.status_code == 400
    assert answer.json()["details"].startswith(details)
    assert not Quota.objects.exists()


def test_setting_a_limit_again_changes_it(api: ApiClient, admin: User) -> None:
    make_user("max")
    for value in (5, 6):
        api("POST", "quotas", {"user": "max", "unit": "requests", "window": "month", "limit": value})
    assert [quota.limit for quota in Quota.objects.all()] == [6]
    assert api("PATCH", f"quotas/{2**70}", {"limit": 1}).status_code == 404
