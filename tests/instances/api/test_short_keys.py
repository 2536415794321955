"""A key that is less than its owner makes no more of itself by way of instances: no program, no share, no new owner."""

from __future__ import annotations

from typing import Any

import pytest

from accounts.enums import PermissionMode
from accounts.models import AuditEntry, User
from instances.models import Instance, InstanceShare, KeyPermission
from tests.accounts.api.test_restricted_keys import KINDS, make_restricted
from tests.conftest import ApiClient
from tests.factories import make_instance

FORBIDDEN: list[dict[str, Any]] = [
    {"command_override": "/bin/sh"},
    {"environment": {"LD_PRELOAD": "/tmp/x.so"}},
    {"preset_ini": "[x]\nmodel = /etc/passwd"},
    {"backend_options": {"model": "/etc/passwd"}},
    {"backend_options": {"extra_args": {"log-file": "/tmp/x"}}},
    {"backend_type": "command", "backend_options": {"command": "sh -c true ${PORT}"}},
]


@pytest.fixture
def limited(admin: User) -> ApiClient:
    """A client with a key of an administrator that opens one instance."""
    alpha = make_instance("alpha", owner=admin)
    api, key = make_restricted(admin, "one instance")
    key.permission_mode = PermissionMode.PER_INSTANCE
    key.save()
    KeyPermission.objects.create(api_key=key, instance=alpha)
    return api


@pytest.mark.parametrize("patch", FORBIDDEN, ids=lambda patch: str(list(patch)))
def test_a_key_for_one_instance_cannot_have_it_run_a_program_that_reaches_the_others(
    limited: ApiClient, api: ApiClient, patch: dict[str, Any]
) -> None:
    method = "PUT" if "backend_type" in patch else "PATCH"
    refused = limited(method, "instances/alpha", patch)
    assert (refused.status_code, refused.json()["error"]) == (403, "permission_denied")
    assert "only an administrator may set this" in refused.json()["details"]
    assert api(method, "instances/alpha", patch).status_code == 200  # a whole key of the same person


def test_what_stands_already_may_stay_when_such_a_key_changes_the_rest(limited: ApiClient) -> None:
    Instance.objects.update(options={"backend_options": {"model": "m.gguf"}, "environment": {"A": "1"}})
    assert limited("PATCH", "instances/alpha", {"idle_timeout": 5}).status_code == 200
    assert Instance.objects.get().options["environment"] == {"A": "1"}


@pytest.mark.parametrize("how", [*KINDS, "one instance"])
def test_no_restricted_key_shares_an_instance_or_gives_it_away(
    admin: User, member: User, limited: ApiClient, how: str
) -> None:
    api = limited if how == "one instance" else make_restricted(admin, how)[0]
    InstanceShare.objects.create(instance=Instance.objects.get(), user=member, level="use")
    for method, path, body in (
        ("PUT", "shares/users/mia", {"level": "manage"}),
        ("DELETE", "shares/users/mia", None),
        ("PUT", "owner", {"owner": "mia"}),
    ):
        answer = api(method, f"instances/alpha/{path}", body)
        assert (answer.status_code, answer.json()["error"]) == (403, "permission_denied")
        assert "can't share instances" in answer.json()["details"]
    assert (Instance.objects.get().owner, InstanceShare.objects.get().level) == (admin, "use")
    assert not AuditEntry.objects.filter(target_type="instance").exists()
    assert api("GET", "instances/alpha/shares").status_code == 200


def test_a_key_that_may_not_start_has_nothing_started_with_corral(admin: User) -> None:
    api, _ = make_restricted(admin, "can_start")
    make_instance("alpha")
    options = {"backend_type": "llama_cpp", "backend_options": {"model": "m.gguf"}, "preload": True}
    for answer in (api("POST", "instances/beta", options), api("PATCH", "instances/alpha", {"preload": True})):
        assert (answer.status_code, answer.json()["error"]) == (403, "permission_denied")
        assert "may not start instances" in answer.json()["details"]
    assert [row.name for row in Instance.objects.all()] == ["alpha"]
    assert "preload" not in Instance.objects.get().options
