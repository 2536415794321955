"""How the management API reads a key."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.domain.actors import CORRAL
from accounts.domain.keys import revoke_key
from accounts.enums import KeyKind
from accounts.models import ApiKey, User
from tests.factories import make_key

MISSING = b'{"error": {"message": "Missing API key", "type": "authentication_error"}}'
INVALID = b'{"error": {"message": "Invalid API key", "type": "authentication_error"}}'


def get(client: Client | None = None, query: str = "", **headers: str) -> Any:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return (client or Client()).get(f"/api/v1/version{query}", headers=names)


@pytest.fixture
def key(admin: User) -> str:
    return make_key(admin)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_bearer_scheme_is_read_in_any_case(key: str, scheme: str) -> None:
    assert get(Authorization=f"{scheme} {key}").status_code == 200


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()


def test_a_key_may_come_in_a_header_or_the_query(key: str) -> None:
    assert get(X_API_Key=key).status_code == 200
    assert get(xi_api_key=key).status_code == 200
    assert get(Authorization=basic(key)).status_code == 200
    assert get(query=f"?api_key={key}").status_code == 200


def test_the_first_place_counts(key: str) -> None:
    assert get(Authorization="Bearer wrong", X_API_Key=key).status_code == 401
    assert get(X_API_Key="wrong", query=f"?api_key={key}").status_code == 401


@pytest.mark.parametrize("value", ["Basic =", "Basic dTo=", "Bearer", "Bearer ", "Token x"])
def test_another_scheme_falls_through_to_the_next_place(key: str, value: str) -> None:
    assert get(Authorization=value, X_API_Key=key).status_code == 200
    assert get(Authorization=value).content == MISSING


def test_a_password_that_is_no_key_hides_no_key_and_no_session_and_is_told_where_there_is_neither(
    admin: User, key: str
) -> None:
    """A browser sends it with every request where a reverse proxy in front of Corral asks for one."""
    password = basic("the proxy's")
    client = Client()
    client.force_login(admin)
    assert get(Authorization=password, X_API_Key=key).status_code == 200
    assert get(client, Authorization=password).status_code == 200
    assert get(Authorization=password).content == INVALID
    assert get(client, Authorization=password, X_API_Key="wrong").content == INVALID
    assert get(client, Authorization=basic(make_key(admin, KeyKind.INFERENCE))).content == INVALID


def test_a_password_that_is_no_key_changes_nothing_where_nobody_needs_one(db: None, change_settings: Any) -> None:
    change_settings(require_management_auth=False)
    assert get(Authorization=basic("the proxy's")).status_code == 200


def test_another_sites_page_changes_nothing_with_the_password_that_a_browser_repeats(key: str) -> None:
    headers = {"Authorization": basic(key), "Origin": "https://elsewhere.example"}
    statuses = []
    for site in ("cross-site", "same-origin"):
        sent = {**headers, "Sec-Fetch-Site": site}
        statuses.append(Client().post("/api/v1/teams", '{"name":"x"}', "application/json", headers=sent).status_code)
    assert statuses == [403, 201]


def test_the_two_bodies_are_byte_for_byte_the_contracts(db: None) -> None:
    assert get().content == MISSING
    assert get(X_API_Key="nonsense").content == INVALID
    assert get().headers["Content-Type"] == "application/json"


def test_an_inference_key_does_not_open_the_management_api(admin: User) -> None:
    assert get(X_API_Key=make_key(admin, KeyKind.INFERENCE)).content == INVALID


def test_a_revoked_key_is_invalid_at_once(key: str) -> None:
    assert get(X_API_Key=key).status_code == 200
    revoke_key(actor=CORRAL, key=ApiKey.objects.get())
    assert get(X_API_Key=key).content == INVALID


def test_expired_keys_and_keys_of_inactive_people_are_invalid(admin: User, key: str) -> None:
    ApiKey.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert get(X_API_Key=key).content == INVALID
    ApiKey.objects.update(expires_at=None)
    User.objects.update(is_active=False)
    assert get(X_API_Key=key).content == INVALID


def test_a_key_costs_one_query_however_many_there_are(admin: User, key: str, django_assert_num_queries: Any) -> None:
    """llamactl 11.2-26: every request hashed against every key with Argon2."""
    for _ in range(5):
        make_key(admin)
    get(X_API_Key=key)
    with django_assert_num_queries(1):
        get(X_API_Key=key)


def test_last_use_is_noted_once_a_minute(key: str, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(2):
        get(X_API_Key=key)
    first = ApiKey.objects.get().last_used_at
    assert first is not None
    get(X_API_Key=key)
    assert ApiKey.objects.get().last_used_at == first
    ApiKey.objects.update(last_used_at=first - timedelta(minutes=2))
    get(X_API_Key=key)
    assert ApiKey.objects.get().last_used_at > first


def test_a_signed_in_person_needs_no_key_but_a_csrf_token_for_changes(admin: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin)

    assert get(client).status_code == 200
    refused = client.post("/api/v1/backends/mlx/parse-command", '{"command": "x"}', content_type="application/json")
    assert refused.status_code == 403
    assert refused.json()["error"] == "permission_denied"

    client.get("/admin/")
    token = client.cookies["csrftoken"].value
    for kind in ("application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        allowed = client.post(
            "/api/v1/backends/mlx/parse-command",
            '{"command": "x"}',
            content_type=kind,
            headers={"X-CSRFToken": token},
        )
        assert allowed.status_code in (200, 400), allowed.content
    assert client.delete("/api/v1/instances/x", headers={"X-CSRFToken": token}).status_code == 404


def test_a_wrong_key_is_not_rescued_by_a_session(admin: User) -> None:
    client = Client()
    client.force_login(admin)

    assert get(client, X_API_Key="wrong").content == INVALID
