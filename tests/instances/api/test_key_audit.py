"""What the audit keeps of keys and limits."""

from __future__ import annotations

from typing import Any

import pytest

from accounts.models import AuditEntry
from tests.conftest import ApiClient
from tests.factories import make_instance

LIMITS = [{"unit": "requests", "window": "day", "limit": 5}]


@pytest.fixture
def made(api: ApiClient) -> dict[str, Any]:
    """A key for one instance, with a limit."""
    listed = make_instance("alpha").pk
    AuditEntry.objects.all().delete()
    body = {"name": "ci", "permission_mode": "per_instance", "instance_ids": [listed], "limits": LIMITS}
    return {**api("POST", "auth/keys", body).json(), "listed": listed}


def test_what_a_new_key_opens_and_its_limits_are_in_its_entry(made: dict[str, Any]) -> None:
    entry = AuditEntry.objects.get(action="key.create")
    assert entry.after["instance_ids"] == [made["listed"]]
    assert entry.after["limits"] == {"requests per day": 5}


@pytest.mark.parametrize("change", [{}, {"name": "ci"}, {"limits": LIMITS}, {"permission_mode": "per_instance"}])
def test_a_change_of_a_key_that_changes_nothing_leaves_no_entry(
    api: ApiClient, made: dict[str, Any], change: dict[str, Any]
) -> None:
    assert api("PATCH", f"auth/keys/{made['id']}", change).status_code == 200
    assert not AuditEntry.objects.filter(action="key.change").exists()
    assert api("PATCH", f"auth/keys/{made['id']}", {"limits": []}).status_code == 200
    assert AuditEntry.objects.get(action="key.change").before == {"limits": {"requests per day": 5}}


def test_a_limit_set_to_what_it_is_leaves_no_entry(api: ApiClient) -> None:
    body = {"unit": "requests", "window": "day", "limit": 5}
    pk = api("POST", "quotas", body).json()["id"]
    assert api("POST", "quotas", body).json()["limit"] == 5
    assert api("PATCH", f"quotas/{pk}", {"limit": 5}).json()["limit"] == 5
    assert not AuditEntry.objects.filter(action="quota.change").exists()
    assert api("PATCH", f"quotas/{pk}", {"limit": 6}).json()["limit"] == 6
    assert AuditEntry.objects.get(action="quota.change").after == {"limit": 6}
