"""The record of who changed what: what is kept of a change, and what never is."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from accounts.domain.actors import SUPERVISOR, actor_for, console_actor
from accounts.domain.audit import keep_differences, read_fields, record_change
from accounts.domain.origins import Origin, use_origin
from accounts.enums import AuditSource, Role
from accounts.middleware import note_origin
from accounts.models import ApiKey, AuditEntry, User
from instances.models import Instance
from tests.factories import make_instance, make_key, make_user


@pytest.mark.django_db
def test_an_entry_says_who_did_what_to_which_object_from_where_with_which_key() -> None:
    user = make_user("ada", Role.ADMIN)
    make_key(user)
    key = ApiKey.objects.get()
    instance = make_instance("alpha")

    with use_origin(Origin(AuditSource.API, address="192.0.2.7", request_id="req-1")):
        record_change(actor=actor_for(user, key), action="instance.update", target=instance, before={}, after={"a": 1})

    entry = AuditEntry.objects.latest("id")
    assert (entry.actor, entry.user, entry.user_name) == (f"key:{key.pk} (user:ada)", user, "ada")
    assert (entry.key_id, entry.key_name) == (key.pk, str(key))
    assert (entry.source, entry.client_address, entry.request_id) == ("api", "192.0.2.7", "req-1")
    assert (entry.action, entry.target_type) == ("instance.update", "instance")
    assert (entry.target_id, entry.target_label) == (str(instance.pk), "alpha")
    assert (entry.before, entry.after) == ({}, {"a": 1})


@pytest.mark.django_db
def test_an_entry_outlives_the_person_the_key_and_the_object() -> None:
    user = make_user("ada", Role.ADMIN)
    make_key(user)
    record_change(actor=actor_for(user, ApiKey.objects.get()), action="x.y", target=make_instance("alpha"))
    Instance.objects.all().delete()
    user.delete()

    entry = AuditEntry.objects.latest("id")
    assert entry.user is None
    assert entry.user_name == "ada"
    assert entry.key_name.startswith("management")
    assert entry.target_label == "alpha"


@pytest.mark.django_db
def test_what_nobody_asked_for_is_corrals_own_doing() -> None:
    record_change(actor=SUPERVISOR, action="x.y", target=None)

    entry = AuditEntry.objects.latest("id")
    assert (entry.source, entry.actor, entry.user, entry.target_type) == ("corral", "supervisor", None, "")


@pytest.mark.django_db(transaction=True)
def test_an_entry_goes_with_the_change_when_that_is_rolled_back() -> None:
    def change_and_fail() -> None:
        record_change(actor=console_actor(), action="x.y", target=None)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), transaction.atomic():
        change_and_fail()

    assert not AuditEntry.objects.exists()


@pytest.mark.any_database
@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, ({"b": 2}, {"b": 3})),
        ({"a": 1}, {"a": 1}, ({}, {})),
        ({"a": 1}, {}, ({"a": 1}, {})),
        ({}, {"a": None}, ({}, {"a": None})),
        (
            {"o": {"x": 1, "y": {"z": 2}}},
            {"o": {"x": 1, "y": {"z": 3}}},
            ({"o": {"y": {"z": 2}}}, {"o": {"y": {"z": 3}}}),
        ),
        ({"o": {"x": 1}}, {"o": {"x": 1}}, ({}, {})),
        ({"o": {}}, {"o": {"x": 1}}, ({}, {"o": {"x": 1}})),
        ({"o": {"x": 1}}, {"o": 5}, ({"o": {"x": 1}}, {"o": 5})),
        ({"l": [1, 2]}, {"l": [1, 3]}, ({"l": [1, 2]}, {"l": [1, 3]})),
    ],
)
def test_only_what_differs_is_kept(before: Any, after: Any, kept: Any) -> None:
    assert keep_differences(before, after) == kept


SECRETS = {
    "password": "hush",
    "key_hash": "hush",
    "client_secret": "hush",
    "recovery_codes": ["hush", "hush"],
    "options": {
        "backend_options": {"api_key": "hush", "hf_token": "hush", "extra_args": {"ssl_password": "hush"}},
        "environment": {"HF_TOKEN": "hush", "AWS_CREDENTIALS": "hush", "DATABASE": "postgres://ann:hush@host/x"},
        "preset_ini": "[m]\napi-key = hush\nctx-size = 5\nhf-token: hush",
        "command_override": "sh -c 'TOKEN=hush serve --api-key hush'",
        "docker_args": ["-e", "HF_TOKEN=hush", "--password", "hush"],
    },
    "notes": "it is corral-mgmt-hush0123456789abcdef now, hf_hushhushhushhush before",
    "headers": [{"name": "x", "authorization": "hush"}],
}


@pytest.mark.django_db
def test_no_secret_gets_into_the_record() -> None:
    record_change(actor=SUPERVISOR, action="x.y", target=None, before=SECRETS, after={})
    record_change(actor=SUPERVISOR, action="x.y", target=None, after=SECRETS)

    assert "hush" not in str(list(AuditEntry.objects.values()))


@pytest.mark.django_db
def test_what_is_no_secret_can_be_read() -> None:
    shown = {
        "max_tokens": 5,
        "tokenizer": "byte",
        "name": "key of ada",
        "environment": {"CUDA_VISIBLE_DEVICES": "0,1"},
        "args": ["--ctx-size", "4096"],
        "password": "",
    }
    record_change(actor=SUPERVISOR, action="x.y", target=None, after=shown)

    assert AuditEntry.objects.latest("id").after == shown


@pytest.mark.django_db
def test_a_changed_secret_shows_that_it_changed() -> None:
    record_change(actor=SUPERVISOR, action="x.y", target=None, before={"api_key": "a"}, after={"api_key": "b"})

    entry = AuditEntry.objects.latest("id")
    assert entry.before == entry.after == {"api_key": "********"}


@pytest.mark.django_db
def test_texts_that_a_database_cannot_take_or_that_are_long_are_made_fit() -> None:
    record_change(
        actor=SUPERVISOR,
        action="x.y",
        target=User(username="x" * 300 + "\0"),
        after={"a\0": "b\0\ud800", "long": "x" * 100_000, "set": {"b", "a"}},
    )

    entry = AuditEntry.objects.latest("id")
    assert entry.after["a\N{REPLACEMENT CHARACTER}"] == "b\N{REPLACEMENT CHARACTER}?"
    assert entry.after["long"].endswith("… (100000 characters)")
    assert len(entry.after["long"]) < 2100
    assert entry.after["set"] == ["a", "b"]
    assert len(entry.target_label) == 200


@pytest.mark.django_db
def test_fields_of_a_row_are_read_with_names_for_foreign_keys() -> None:
    user = make_user("ada")
    instance = make_instance("alpha", owner=user)

    assert read_fields(instance, "owner", "pinned") == {"owner": "ada", "pinned": False}


@pytest.mark.any_database
@pytest.mark.parametrize(
    ("path", "source"), [("/api/v1/instances", "api"), ("/admin/auth/group/add/", "admin_site"), ("/login/", "page")]
)
async def test_the_origin_is_that_of_the_request(path: str, source: str) -> None:
    from accounts.domain.origins import current_origin

    seen = []
    request = RequestFactory(headers={"X-Request-Id": "req-1"}).post(path, REMOTE_ADDR="192.0.2.7")

    def answer(request: HttpRequest) -> HttpResponse:
        seen.append(current_origin())
        return HttpResponse()

    async def answer_later(request: HttpRequest) -> HttpResponse:
        return answer(request)

    note_origin(answer)(request)
    await note_origin(answer_later)(request)

    assert seen == [Origin(AuditSource(source), "192.0.2.7", "req-1")] * 2
    assert current_origin() == Origin()


@pytest.mark.any_database
def test_a_request_id_that_is_none_is_not_kept() -> None:
    from accounts.middleware import read_origin

    assert read_origin(RequestFactory(headers={"X-Request-Id": "=cmd()|x"}).get("/")).request_id == ""
