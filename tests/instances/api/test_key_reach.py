"""What one key may do to others, and to itself."""

from __future__ import annotations

from typing import Any

import pytest

from accounts.models import ApiKey
from tests.conftest import ApiClient
from tests.factories import make_instance

FULL = {"permission_mode": "allow_all", "kind": "management"}


@pytest.fixture
def listed(db: None) -> int:
    make_instance("beta")
    return make_instance("alpha").pk


@pytest.fixture
def limited(api: ApiClient, listed: int) -> dict[str, Any]:
    """A management key for one instance."""
    body = {**FULL, "name": "limited", "permission_mode": "per_instance", "instance_ids": [listed]}
    return dict(api("POST", "auth/keys", body).json())


def test_a_key_for_chosen_instances_does_not_add_others_to_itself(
    api: ApiClient, limited: dict[str, Any], listed: int
) -> None:
    everything = [row["id"] for row in api("GET", "instances").json()]
    own = ApiClient(limited["key"])
    answer = own("PATCH", f"auth/keys/{limited['id']}", {"instance_ids": everything})
    assert (answer.status_code, answer.json()["error"]) == (403, "permission_denied")
    assert [row["id"] for row in own("GET", "instances").json()] == [listed]


@pytest.mark.parametrize(("method", "action"), [("POST", "/revoke"), ("DELETE", "")])
def test_a_key_for_chosen_instances_ends_none_that_can_do_more_but_itself(
    api: ApiClient, limited: dict[str, Any], method: str, action: str
) -> None:
    other = api("POST", "auth/keys", {**FULL, "name": "other"}).json()
    own = ApiClient(limited["key"])
    assert own(method, f"auth/keys/{other['id']}{action}").status_code == 403
    assert ApiKey.objects.get(pk=other["id"]).revoked_at is None
    assert own(method, f"auth/keys/{limited['id']}{action}").status_code in (200, 204)
    assert own("GET", "instances").status_code == 401


def test_a_secret_in_its_grace_makes_and_changes_no_key(api: ApiClient) -> None:
    made = api("POST", "auth/keys", {**FULL, "name": "replaced"}).json()
    fresh = api("POST", f"auth/keys/{made['id']}/rotate", {"grace": 3600}).json()
    former = ApiClient(made["key"])
    assert former("GET", "instances").status_code == 200
    assert former("POST", "auth/keys", {**FULL, "name": "persist"}).status_code == 403
    assert former("POST", f"auth/keys/{made['id']}/rotate", {"grace": 0}).status_code == 403
    assert ApiClient(fresh["key"])("GET", "instances").status_code == 200
