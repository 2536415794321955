"""The pages of keys: one's own, made and shown once, changed, rotated and ended."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from accounts.domain.actors import CORRAL
from accounts.domain.keys import create_key, find_key
from accounts.models import ApiKey, Quota, User
from instances.models import InstanceShare, KeyPermission
from tests.factories import make_instance, make_key
from tests.pages import read_token

ClientOf = Callable[[User], Client]
FORM = {"name": "ci", "kind": "inference", "permission_mode": "allow_all", "can_start": "on"}
SECRET = re.compile(r"corral-(?:mgmt-)?[0-9a-f]{64}")


def read_secret(page: str) -> str:
    found = set(SECRET.findall(page))
    assert len(found) == 1
    return found.pop()


def test_a_made_key_is_shown_once_and_works(member: User, client_of: ClientOf) -> None:
    shared = make_instance("shared")
    make_instance("secret-one")
    InstanceShare.objects.create(instance=shared, user=member, level="use")
    client = client_of(member)

    empty = client.get("/keys/new/").content.decode()
    assert "shared" in empty
    assert "secret-one" not in empty
    answer = client.post(
        "/keys/new/",
        {**FORM, "permission_mode": "per_instance", "instance_ids": [shared.pk], "limit_tokens_day": "500"},
    )

    assert answer.status_code == 200
    assert "no-store" in answer.headers["Cache-Control"]
    key = find_key(read_secret(answer.content.decode()))
    assert key is not None
    assert (key.name, key.user, key.can_start, key.can_evict) == ("ci", member, True, False)
    assert list(key.permissions.values_list("instance_id", flat=True)) == [shared.pk]
    assert str(Quota.objects.get()) == f"key {key}: 500 tokens per day"
    listed = client.get("/keys/").content.decode()
    assert "500 tokens per day" in listed
    assert not SECRET.search(listed)


def test_sending_a_form_again_makes_no_second_secret(member: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(member)

    def send(path: str, token: str) -> int:
        fields = {**FORM, "csrfmiddlewaretoken": token}
        return client.post(path, fields, headers={"referer": "http://testserver/keys/"}).status_code

    first, second = (read_token(client.get("/keys/new/").content.decode()) for _ in range(2))
    assert [send("/keys/new/", first), send("/keys/new/", second), send("/keys/new/", first)] == [200, 200, 302]
    assert "was done already" in client.get("/keys/").content.decode()
    assert ApiKey.objects.count() == 2
    key = ApiKey.objects.first()
    assert key is not None
    path = f"/keys/{key.pk}/rotate/"
    assert send(path, first) == 200
    key.refresh_from_db()
    digest = key.key_hash
    assert send(path, first) == 302
    key.refresh_from_db()
    assert key.key_hash == digest


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"name": " "}, "Name is required."),
        ({"name": "c\u202ei"}, "Name must be of printable characters."),
        ({"permission_mode": "per_instance"}, "Tick at least one instance"),
        ({"instance_ids": ["9999"]}, "Select a valid choice"),
        ({"expires_at": "2020-01-01"}, "Choose tomorrow or a later day."),
        ({"expires_at": "soon"}, "Enter a valid date."),
        ({"limit_requests_day": "-1"}, "greater than or equal to 0"),
        ({"limit_requests_day": "9" * 30}, "A limit must be a number from 0 to"),
        ({"kind": "super"}, "Select a valid choice"),
    ],
)
def test_what_cannot_be_is_said_in_the_form(client: Client, changes: dict[str, object], complaint: str) -> None:
    answer = client.post("/keys/new/", {**FORM, **changes})
    assert answer.status_code == 422
    assert complaint in answer.content.decode().replace("&#x27;", "'")
    assert not ApiKey.objects.exists()


def test_a_change_keeps_an_expiry_that_was_not_touched(client: Client, admin: User) -> None:
    end = timezone.now() + timedelta(days=2)
    key, _ = create_key(actor=CORRAL, user=admin, name="old", expires_at=end)
    page = client.get(f"/keys/{key.pk}/").content.decode()
    assert f'value="{end:%Y-%m-%d}"' in page

    answer = client.post(f"/keys/{key.pk}/", {**FORM, "name": "new", "expires_at": f"{end:%Y-%m-%d}"})

    assert (answer.status_code, answer.headers["Location"]) == (302, "/keys/")
    key.refresh_from_db()
    assert (key.name, key.expires_at) == ("new", end)


def test_rotating_shows_the_new_secret_and_ending_ends(client: Client, admin: User) -> None:
    key, old = create_key(actor=CORRAL, user=admin, name="k")
    assert "stops working" in client.get(f"/keys/{key.pk}/rotate/").content.decode()
    new = read_secret(client.post(f"/keys/{key.pk}/rotate/", {"grace": "3600"}).content.decode())
    assert [find_key(secret) is not None for secret in (old, new)] == [True, True]
    newest = read_secret(client.post(f"/keys/{key.pk}/rotate/", {"grace": "x"}).content.decode())
    assert [find_key(secret) is not None for secret in (old, new, newest)] == [False, False, True]

    assert client.get(f"/keys/{key.pk}/revoke/").status_code == 200
    assert client.post(f"/keys/{key.pk}/revoke/").status_code == 302
    assert find_key(newest) is None
    assert "revoked" in client.get("/keys/").content.decode()
    assert client.post(f"/keys/{key.pk}/rotate/", follow=True).redirect_chain == [("/keys/", 302)]
    client.post(f"/keys/{key.pk}/delete/")
    assert not ApiKey.objects.exists()


def test_others_keys_do_not_exist_but_for_administrators(
    client: Client, operator: User, member: User, client_of: ClientOf
) -> None:
    make_key(member)
    key = ApiKey.objects.get()
    stranger = client_of(operator)
    for page in ("", "rotate/", "revoke/", "delete/"):
        assert stranger.get(f"/keys/{key.pk}/{page}").status_code == 404
        assert stranger.post(f"/keys/{key.pk}/{page}", FORM).status_code == 404
    assert key.name not in stranger.get("/keys/?all").content.decode()
    assert key.name not in client.get("/keys/").content.decode()
    for query in ("all", "user=mia"):
        assert key.name in client.get(f"/keys/?{query}").content.decode()
    assert client.get(f"/keys/{2**70}/").status_code == 404
    assert client.get("/keys/?user=%00&page=x").status_code == 200


def test_a_list_of_instances_that_are_gone_says_so(client: Client, admin: User) -> None:
    instance = make_instance("alpha")
    key, _ = create_key(actor=CORRAL, user=admin, name="k")
    ApiKey.objects.update(permission_mode="per_instance")
    KeyPermission.objects.create(api_key=key, instance=instance)
    assert "alpha" in client.get("/keys/").content.decode()
    instance.delete()
    assert "nothing any more" in client.get("/keys/").content.decode()


def test_limits_are_set_seen_and_ended_on_their_page(
    client: Client, admin: User, member: User, client_of: ClientOf
) -> None:
    mine = client_of(member)
    assert "Nothing limits you" in mine.get("/limits/").content.decode()
    body = {"user": "", "team": "", "unit": "requests", "window": "day", "limit": "40"}
    assert client.post("/limits/", body).status_code == 302
    assert client.post("/limits/", {**body, "user": "mia", "limit": "7"}).status_code == 302

    seen = mine.get("/limits/").content.decode()
    assert "7 requests per day" in seen
    assert "40 requests" not in seen
    assert "Set a limit" not in seen
    assert "40 requests per day" in client.get("/limits/").content.decode()
    for wrong in (
        {**body, "user": "nobody"},
        {**body, "team": "x"},
        {**body, "limit": ""},
        {**body, "limit": "9" * 20},
    ):
        assert client.post("/limits/", wrong).status_code == 422
    assert mine.post("/limits/", body).status_code == 422

    quota = Quota.objects.get(user=member)
    assert mine.post(f"/limits/{quota.pk}/delete/").status_code == 404
    assert client.post(f"/limits/{quota.pk}/delete/").status_code == 302
    assert "40 requests per day" in mine.get("/limits/").content.decode()
