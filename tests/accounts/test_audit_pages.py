"""The audit's pages, export and API: who may look, what is found, and what a spreadsheet makes of it."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import AsyncClient, Client
from django.utils import timezone

from accounts.domain.actors import actor_for, console_actor
from accounts.domain.audit import record_change
from accounts.domain.origins import Origin, use_origin
from accounts.enums import AuditSource, Role
from accounts.models import ApiKey, AuditEntry, User
from instances.models import KeyPermission
from tests.conftest import ApiClient
from tests.factories import make_instance, make_key, make_user

PATHS = ["/audit/", "/audit/export/?format=csv", "/audit/1/"]


@pytest.fixture
def client(admin: User) -> Client:
    client = Client()
    client.force_login(admin)
    AuditEntry.objects.all().delete()
    return client


@pytest.fixture
def entries(admin: User, operator: User) -> None:
    """Four changes, the oldest first."""
    alpha, beta = make_instance("alpha"), make_instance("beta")
    make_key(operator)
    key = ApiKey.objects.filter(user=operator).latest("id")
    AuditEntry.objects.all().delete()
    with use_origin(Origin(AuditSource.PAGE, "192.0.2.1")):
        record_change(actor=actor_for(admin), action="instance.create", target=alpha, after={"group": "<b>lab</b>"})
    with use_origin(Origin(AuditSource.API, "192.0.2.2", "req-7")):
        record_change(
            actor=actor_for(operator, key),
            action="instance.update",
            target=beta,
            before={"options": {"ctx_size": 1024}},
            after={"options": {"ctx_size": 2048}},
        )
    with use_origin(Origin(AuditSource.COMMAND_LINE)):
        record_change(actor=console_actor(), action="user.create", target=operator, after={"role": "operator"})
    record_change(actor=actor_for(admin), action="instances.odd", target=None)
    AuditEntry.objects.filter(action="instance.create").update(created_at=datetime(2026, 3, 4, 23, 30, tzinfo=UTC))


def found(client: Client, query: str) -> list[str]:
    """Return the actions that the page shows."""
    response = client.get(f"/audit/?{query}")
    assert response.status_code == 200
    return [entry.action for entry in response.context["page"].object_list]


@pytest.mark.parametrize(
    ("query", "actions"),
    [
        ("", ["instances.odd", "user.create", "instance.update", "instance.create"]),
        ("person=ada", ["instances.odd", "instance.create"]),
        ("person=ada,olga", ["instances.odd", "instance.update", "instance.create"]),
        ("person=nobody", []),
        ("action=instance", ["instance.update", "instance.create"]),
        ("action=instance.update", ["instance.update"]),
        ("object=bet", ["instance.update"]),
        ("object_type=user", ["user.create"]),
        ("source=command_line", ["user.create"]),
        ("since=2026-03-04&until=2026-03-04", ["instance.create"]),
        ("until=2026-03-03", []),
        ("q=2048", ["instance.update"]),
        ("q=req-7+beta", ["instance.update"]),
        ("q=req-7+alpha", []),
        ("q=192.0.2", ["instance.update", "instance.create"]),
        ("q=%25", []),
    ],
)
def test_the_page_finds_what_is_asked_for(client: Client, entries: None, query: str, actions: list[str]) -> None:
    assert found(client, query) == actions


def test_an_entry_shows_what_changed_side_by_side(client: Client, entries: None) -> None:
    entry = AuditEntry.objects.get(action="instance.update")

    page = client.get(f"/audit/{entry.pk}/").content.decode()

    assert "<del>1024</del>" in page
    assert "<ins>2048</ins>" in page
    assert "options.ctx_size" in page
    assert "192.0.2.2" in page


def test_what_was_recorded_cannot_be_html(client: Client, entries: None) -> None:
    entry = AuditEntry.objects.get(action="instance.create")

    assert "<b>lab" not in client.get(f"/audit/{entry.pk}/").content.decode()


def test_all_changes_of_an_object_are_found_by_its_id(client: Client, entries: None) -> None:
    entry = AuditEntry.objects.get(action="instance.update")

    assert found(client, f"object_type=instance&object_id={entry.target_id}") == ["instance.update"]


@pytest.mark.parametrize(
    "query",
    ["since=x", "until=2026-02-31", "since=0001-01-01", "until=9999-12-31", "source=moon", "q=" + "x" * 300, "q=%00"],
)
def test_a_filter_that_cannot_be_is_said_beside_it(client: Client, entries: None, query: str) -> None:
    for path in ("/audit/", "/audit/export/"):
        response = client.get(f"{path}?{query}")
        assert response.status_code == 422
        assert "invalid-feedback" in response.content.decode()


def test_an_end_before_the_beginning_is_refused(client: Client) -> None:
    assert client.get("/audit/?since=2026-03-04&until=2026-03-01").status_code == 422


@pytest.mark.parametrize("page", ["2", "0", "x", "99999999999999999999"])
def test_pages_are_of_fifty(client: Client, admin: User, page: str) -> None:
    for _ in range(51):
        record_change(actor=actor_for(admin), action="x.y", target=None)

    assert client.get(f"/audit/?page={page}").status_code == 200
    assert len(client.get("/audit/").context["page"].object_list) == 50
    assert len(client.get("/audit/?page=2").context["page"].object_list) == 1


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.MEMBER])
@pytest.mark.parametrize("path", PATHS)
def test_only_administrators_see_it(client: Client, entries: None, role: Role, path: str) -> None:
    other = Client()
    other.force_login(make_user("otto", role))

    assert other.get(path).status_code == 403
    assert Client().get(path).status_code == 302
    assert "/audit/" not in other.get("/").content.decode()
    assert "/audit/" in client.get("/").content.decode()


@pytest.mark.parametrize("path", ["/audit/", "/audit/export/", "/audit/1/"])
def test_nothing_is_changed_there(client: Client, path: str) -> None:
    assert client.post(path).status_code == 405


def test_an_entry_that_does_not_exist_is_not_found(client: Client) -> None:
    assert client.get("/audit/999999999999999999999/").status_code == 404


async def read_export(admin: User, query: str) -> str:
    client = AsyncClient()
    await client.aforce_login(admin)
    response = await client.get(f"/audit/export/?{query}")
    assert response.status_code == 200
    assert "attachment" in response["Content-Disposition"]
    return b"".join([piece async for piece in response.streaming_content]).decode()  # type: ignore[union-attr]


@pytest.mark.django_db(transaction=True)
async def test_the_export_holds_all_that_is_asked_for_however_much(
    monkeypatch: pytest.MonkeyPatch, admin: User
) -> None:
    monkeypatch.setattr("accounts.domain.audit_export.PIECE", 2)
    for number in range(5):
        await AuditEntry.objects.acreate(actor="user:ada", source="page", action=f"x.{number}")
    await AuditEntry.objects.acreate(actor="user:ada", source="page", action="y.1")

    lines = [json.loads(line) for line in (await read_export(admin, "format=jsonl&action=x")).splitlines()]
    rows = list(csv.DictReader((await read_export(admin, "format=csv&action=x")).splitlines()))

    assert [line["action"] for line in lines] == [f"x.{number}" for number in (4, 3, 2, 1, 0)]
    assert [row["action"] for row in rows] == [line["action"] for line in lines]
    assert rows[0]["created_at"].endswith("+00:00")


@pytest.mark.django_db(transaction=True)
async def test_no_cell_is_a_formula_to_a_spreadsheet(admin: User) -> None:
    await AuditEntry.objects.acreate(
        actor="=1+1", source="page", action="-x", target_label="@SUM(A1)", user_name="+1", key_name="\t=1",
        request_id="\r=1", after={"a": "=1"},
    )  # fmt: skip

    (row,) = list(csv.DictReader((await read_export(admin, "format=csv&action=-x")).splitlines(keepends=True)))

    assert (row["actor"], row["action"], row["target"], row["user"]) == ("'=1+1", "'-x", "'@SUM(A1)", "'+1")
    assert not [cell for cell in row.values() if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert json.loads(row["after"]) == {"a": "=1"}


def test_the_api_lists_with_the_same_filters(api: ApiClient, entries: None) -> None:
    answer = api("GET", "audit?action=instance&limit=1")

    assert answer.status_code == 200
    assert answer["X-Total-Count"] == "2"
    (shown,) = answer.json()
    assert (shown["action"], shown["source"]) == ("instance.update", "api")
    assert (shown["target"], shown["user"]) == ("beta", "olga")
    assert (shown["before"], shown["after"]) == ({"options": {"ctx_size": 1024}}, {"options": {"ctx_size": 2048}})
    for query, count in {
        "user=olga": 1, "key=management": 1, "target=alp": 1, "target_type=user": 1, "source=api,page": 2,
        "request_id=req-7": 1, "q=2048": 1, "until=2026-03-05": 1, f"key={shown['key_id']}": 1,
    }.items():  # fmt: skip
        assert len(api("GET", f"audit?{query}").json()) == count, query
    oldest = api("GET", "audit?order=asc").json()[0]
    assert oldest["created_at"] == datetime(2026, 3, 4, 23, 30, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "query", ["source=moon", "since=x", "order=up", "limit=x", "since=2026-03-04&until=2026-03-01"]
)
def test_the_api_says_what_is_wrong_with_a_query(api: ApiClient, query: str) -> None:
    answer = api("GET", f"audit?{query}")

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_parameter")


def test_the_api_takes_anything_for_a_word(api: ApiClient, entries: None) -> None:
    for query in ("q=%00", "user=%00", "target=99999999999999999999999", "key=%25", "action=%ff"):
        assert api("GET", f"audit?{query}").status_code == 200


def test_the_api_is_for_administrators_and_their_whole_keys(api_of: Any, admin: User, operator: User) -> None:
    assert api_of(operator)("GET", "audit").status_code == 403
    assert ApiClient()("GET", "audit").status_code == 401
    limited = api_of(admin)
    key = ApiKey.objects.latest("id")
    ApiKey.objects.filter(pk=key.pk).update(permission_mode="per_instance")
    KeyPermission.objects.create(api_key=key, instance=make_instance("alpha"))
    assert limited("GET", "audit").status_code == 403


def test_times_are_those_of_the_change(client: Client, admin: User) -> None:
    record_change(actor=actor_for(admin), action="x.y", target=None)

    assert timezone.now() - AuditEntry.objects.get().created_at < timedelta(minutes=1)
