"""`/api/v1/activity` and `/api/v1/usage`: what they show, to whom, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from accounts.domain.actors import CORRAL
from accounts.domain.keys import create_key
from accounts.enums import KeyKind, PermissionMode, Role
from accounts.models import ApiKey, HourlyUsage, RequestRecord, User
from gateway.ledger import write_requests
from instances.models import KeyPermission
from tests.conftest import ApiClient
from tests.factories import make_instance, make_key, make_user
from tests.gateway.accounting.entries import make_entry

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC).timestamp()
ZERO = {"requests": 0, "errors": 0, "prompt_tokens": 0, "completion_tokens": 0, "cached_tokens": 0, "duration_ms": 0}
ONE = {"requests": 1, "errors": 0, "prompt_tokens": 20, "completion_tokens": 50, "cached_tokens": 8, "duration_ms": 30}


@pytest.fixture
def rows(admin: User, member: User) -> None:
    """Requests of two people, in three hours of two days."""
    make_key(member, KeyKind.INFERENCE)
    key = ApiKey.objects.get(user=member)
    ApiKey.objects.filter(pk=key.pk).update(name="laptop")
    write_requests(
        [
            make_entry(request_id="a", finished_at=NOON, user_id=member.pk, key_id=key.pk),
            make_entry(request_id="b", finished_at=NOON + 60, user_id=member.pk, status=404, outcome="refused"),
            make_entry(request_id="c", finished_at=NOON + 3600, user_id=admin.pk, instance_name="beta", instance_id=8),
            make_entry(request_id="d", finished_at=NOON + 86400, user_id=admin.pk, status=499, outcome="cancelled"),
            make_entry(request_id="e", finished_at=NOON + 86401, status=503, requested_model="gemma:4b"),
        ]
    )


def ids(response: Any) -> list[str]:
    assert response.status_code == 200, response.content
    return [row["request_id"] for row in response.json()]


def test_a_request_is_shown_with_everything(api: ApiClient, member: User, rows: None) -> None:
    key = ApiKey.objects.get(name="laptop")

    shown = api("GET", "activity?request_id=a").json()[0]

    assert shown == {
        "id": RequestRecord.objects.get(request_id="a").pk,
        "request_id": "a",
        "finished_at": NOON,
        "user": "mia",
        "key": f"laptop ({key.key_hint}…)",
        "key_id": key.pk,
        "client_address": "127.0.0.1",
        "instance": "alpha",
        "instance_id": 7,
        "backend_type": "llama_cpp",
        "model": "alpha",
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 200,
        "outcome": "answered",
        "error": "",
        "streamed": False,
        "prompt_tokens": 20,
        "completion_tokens": 50,
        "cached_tokens": 8,
        "tokens_are_floor": False,
        "prompt_per_second": 400.5,
        "tokens_per_second": 100.25,
        "queue_ms": 0,
        "first_byte_ms": 5,
        "duration_ms": 30,
    }
    member.delete()
    gone = api("GET", "activity?request_id=a").json()[0]
    assert (gone["user"], gone["key"], gone["key_id"]) == ("mia", shown["key"], None)
    assert ids(api("GET", "activity?user=mia")) == ["b", "a"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("laptop", "ac"),  # the one that has the name now, too
        ("{old}", "a"),
        ("{old},{odd}", "ab"),
        ("laptop (work)", "b"),
        ("work", ""),
        ("lap", ""),
        (r"lapto.", ""),
        ("%00,[", ""),
        ("{new}", "c"),
    ],
)
def test_a_deleted_key_is_found_by_what_is_kept_of_it(api: ApiClient, member: User, words: str, found: str) -> None:
    """The rows still showed it, and nothing found them by it."""
    made = {}
    for request, word, name in (("a", "old", "laptop"), ("b", "odd", "laptop (work)"), ("c", "new", "laptop")):
        key, _ = create_key(actor=CORRAL, user=member, name=name)
        made[word] = key.pk
        write_requests([make_entry(request_id=request, user_id=member.pk, key_id=key.pk)])
    write_requests([make_entry(request_id="d", user_id=member.pk)])
    ApiKey.objects.filter(pk__in=(made["old"], made["odd"])).delete()

    query = f"key={words.format(**made)}"

    assert sorted(ids(api("GET", f"activity?{query}"))) == list(found)
    assert api("GET", f"usage?{query}").json()[0]["requests"] == len(found)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", "edcba"),
        ("order=asc", "abcde"),
        ("order=DESC", "edcba"),
        ("user=mia", "ba"),
        ("user=mia,ada", "dcba"),
        ("user=nobody", ""),
        ("user=%00", ""),
        ("key=laptop", "a"),
        ("key=99999999999999999999", ""),
        ("instance=beta", "c"),
        ("instance=alpha&user=ada", "d"),
        ("status=404", "b"),
        ("status=4xx", "db"),
        ("status=200,5XX", "eca"),
        ("outcome=refused,cancelled", "db"),
        ("model=gemma:4b", "e"),
        ("since=2026-03-05", "ed"),
        ("until=2026-03-04T12:01:00Z", "a"),
        ("since=2026-03-04T13:01:00%2B01:00&until=2026-03-05", "cb"),
        ("since=2026-03-04T13:01:00+01:00&until=2026-03-05", "cb"),
        (f"since={NOON + 60:.0f}&until={NOON + 3600.5}", "cb"),
        ("limit=2&offset=1", "dc"),
        ("offset=4", "a"),
    ],
)
def test_filters_choose(api: ApiClient, rows: None, query: str, found: str) -> None:
    assert "".join(ids(api("GET", f"activity?{query}"))) == found


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("activity?status=9xx", "status"),
        ("activity?status=ok", "status"),
        ("activity?outcome=lost", "outcome"),
        ("activity?order=up", "order"),
        ("activity?since=yesterday", "since"),
        ("activity?since=99999999999999999999", "since"),
        ("activity?since=999999999999", "since"),
        ("activity?until=2026-13-01", "until"),
        ("activity?until=0001-01-01T00:00:00%2B14:00", "until"),
        ("activity?since=9999-12-31T23:59:59-14:00", "since"),
        ("activity?since=%00", "since"),
        ("activity?since=2026-03-05&until=2026-03-04", "until"),
        ("activity?limit=-1", "limit"),
        ("usage?group_by=model", "group_by"),
        ("usage?since=x", "since"),
        ("usage?order=x", "order"),
        ("usage?group_by=user&offset=x", "offset"),
    ],
)
def test_a_wrong_parameter_is_400_and_named(api: ApiClient, rows: None, path: str, name: str) -> None:
    response = api("GET", path)

    assert response.status_code == 400
    assert response.json()["error"] == "invalid_parameter"
    assert response.json()["details"].startswith(f"Invalid {name} parameter")


def test_pages_say_how_much_there_is_and_link_to_each_other(api: ApiClient, rows: None) -> None:
    response = api("GET", "activity?limit=2&user=mia,ada")

    assert ids(response) == ["d", "c"]
    assert response.headers["X-Total-Count"] == "4"
    assert '</api/v1/activity?limit=2&user=mia%2Cada&offset=2>; rel="next"' in response.headers["Link"]
    assert api("GET", "activity").headers["X-Total-Count"] == "5"


@pytest.mark.parametrize("path", ["activity", "usage?group_by=user,key,instance,hour"])
def test_the_number_of_queries_does_not_grow(
    api: ApiClient, rows: None, django_assert_max_num_queries: Any, path: str
) -> None:
    api("GET", "version")  # notes the key's use, which happens once a minute
    with django_assert_max_num_queries(7):
        assert len(api("GET", path).json()) >= 4


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [{name: 5 * count for name, count in ONE.items()} | {"errors": 2}]),
        ("user=nobody", [ZERO]),
        ("group_by=day&user=mia,ada", [{"day": "2026-03-04", "requests": 3}, {"day": "2026-03-05", "requests": 1}]),
        ("group_by=day&order=desc", [{"day": "2026-03-05", "requests": 2}, {"day": "2026-03-04", "requests": 3}]),
        (
            "group_by=hour&until=2026-03-05",
            [{"hour": "2026-03-04T12:00:00Z", "requests": 2, "errors": 1}, {"hour": "2026-03-04T13:00:00Z"}],
        ),
        ("group_by=instance", [{"instance": "alpha", "requests": 4, "prompt_tokens": 80}, {"instance": "beta"} | ONE]),
        (
            "group_by=user,instance&since=2026-03-04T13:59:00Z&until=2026-03-05",
            [{"user": "ada", "instance": "beta"} | ONE],
        ),
        ("group_by=key&key=laptop", [{"requests": 1}]),
        ("group_by=user&limit=1", [{"user": "ada", "requests": 2}]),
        ("group_by=user&offset=2", [{"user": None, "user_id": None, "requests": 1}]),
    ],
)  # fmt: skip
def test_sums_are_made_by_what_is_asked_for(
    api: ApiClient, rows: None, query: str, found: list[dict[str, Any]]
) -> None:
    response = api("GET", f"usage?{query}")

    assert response.status_code == 200, response.content
    shown = response.json()
    assert len(shown) == len(found), shown
    for row, wanted in zip(shown, found, strict=True):
        assert row | wanted == row


def test_sums_name_people_and_keys_as_today_or_as_they_were(api: ApiClient, member: User, rows: None) -> None:
    key = ApiKey.objects.get(name="laptop")
    member.username = "maria"
    member.save()
    row = api("GET", "usage?group_by=user,key&key=laptop").json()[0]
    assert (row["user"], row["user_id"], row["key"], row["key_id"]) == ("maria", member.pk, str(key), key.pk)
    number = key.pk
    member.delete()
    row = api("GET", f"usage?group_by=user,key&key={number}").json()[0]
    assert (row["user"], row["key"], row["key_id"]) == ("mia", f"laptop ({key.key_hint}…)", number)


def test_a_member_sees_only_their_own(api_of: Callable[[User], ApiClient], member: User, rows: None) -> None:
    api = api_of(member)

    assert ids(api("GET", "activity")) == ["b", "a"]
    assert ids(api("GET", "activity?user=ada")) == []
    assert api("GET", "usage").json()[0]["requests"] == 2
    assert [row["user"] for row in api("GET", "usage?group_by=user").json()] == ["mia"]


def test_an_operator_sees_all(api_of: Callable[[User], ApiClient], operator: User, rows: None) -> None:
    assert ids(api_of(operator)("GET", "activity")) == list("edcba")


@pytest.mark.parametrize("role", [Role.ADMIN, Role.MEMBER])
def test_a_key_for_chosen_instances_sees_what_went_there(db: None, role: Role) -> None:
    user = make_user("lea", role)
    chosen, other = make_instance("chosen"), make_instance("other")
    api = ApiClient(make_key(user, KeyKind.MANAGEMENT, PermissionMode.PER_INSTANCE))
    KeyPermission.objects.create(api_key=ApiKey.objects.get(), instance=chosen)
    for instance in (chosen, other):
        fields = {"instance_id": instance.pk, "instance_name": instance.name}
        write_requests([make_entry(user_id=user.pk, request_id=instance.name, **fields)])
    write_requests([make_entry(user_id=user.pk, instance_id=None, instance_name="", outcome="refused", status=404)])

    assert ids(api("GET", "activity")) == ["chosen"]
    assert [row["instance"] for row in api("GET", "usage?group_by=instance").json()] == ["chosen"]


@pytest.mark.parametrize("path", ["activity", "usage"])
def test_a_credential_is_demanded(db: None, path: str) -> None:
    assert ApiClient()("GET", path).status_code == 401
    assert ApiClient(make_key(make_user("ina"), KeyKind.INFERENCE))("GET", path).status_code == 401


def test_everybody_sees_all_where_authentication_is_off(rows: None, change_settings: Callable[..., None]) -> None:
    change_settings(require_management_auth=False)
    assert len(ids(ApiClient()("GET", "activity"))) == 5


def test_sums_stay_when_requests_are_deleted(api: ApiClient, rows: None) -> None:
    RequestRecord.objects.all().delete()
    assert api("GET", "usage").json()[0]["requests"] == 5
    assert HourlyUsage.objects.exists()
