"""API keys: llamactl's five endpoints word for word, and what Corral adds."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.domain.actors import CORRAL
from accounts.domain.keys import create_key, find_key, hash_key
from accounts.enums import KeyKind, PermissionMode, Role
from accounts.models import ApiKey, AuditEntry, Quota, User
from instances.models import InstanceShare, KeyPermission
from tests.conftest import ApiClient
from tests.factories import make_instance, make_key, make_user

FULL = {"name": "k", "permission_mode": "allow_all"}
LISTING = {"name": "k", "permission_mode": "per_instance"}
INVALID_JSON = ("invalid_json", "Invalid JSON in request body")
LLAMACTL = {
    "id", "name", "user_id", "permission_mode", "expires_at", "created_at", "updated_at", "last_used_at",
}  # fmt: skip


def make(api: ApiClient, **members: Any) -> dict[str, Any]:
    answer = api("POST", "auth/keys", {**FULL, **members})
    assert answer.status_code == 201, answer.content
    return dict(answer.json())


@pytest.mark.parametrize(
    ("body", "code", "details"),
    [
        (b"{", *INVALID_JSON),
        (b"", *INVALID_JSON),
        (b"[]", *INVALID_JSON),
        ({**FULL, "name": 5}, *INVALID_JSON),
        ({**FULL, "permission_mode": []}, *INVALID_JSON),
        ({**FULL, "expires_at": "tomorrow"}, *INVALID_JSON),
        ({**FULL, "expires_at": 1.5}, *INVALID_JSON),
        ({**FULL, "expires_at": True}, *INVALID_JSON),
        ({**LISTING, "instance_ids": "1"}, *INVALID_JSON),
        ({**LISTING, "instance_ids": ["1"]}, *INVALID_JSON),
        ({**FULL, "can_start": 1}, *INVALID_JSON),
        ({**FULL, "limits": 5}, *INVALID_JSON),
        ({"permission_mode": "allow_all"}, "invalid_name", "Name is required"),
        ({**FULL, "name": ""}, "invalid_name", "Name is required"),
        ({**FULL, "name": None}, "invalid_name", "Name is required"),
        ({**FULL, "name": "x" * 101}, "invalid_name", "Name must be 100 characters or less"),
        ({**FULL, "name": "ä" * 51}, "invalid_name", "Name must be 100 characters or less"),
        (
            {"name": "k"},
            "invalid_permission_mode",
            "Permission mode must be 'allow_all' or 'per_instance'",
        ),
        (
            {**FULL, "permission_mode": "all"},
            "invalid_permission_mode",
            "Permission mode must be 'allow_all' or 'per_instance'",
        ),
        ({**FULL, "expires_at": 0}, "invalid_expires_at", "Expiration time must be in future"),
        ({**FULL, "expires_at": -(10**30)}, "invalid_expires_at", "Expiration time must be in future"),
        (
            {**FULL, "expires_at": 10**30},
            "invalid_expires_at",
            "Expiration time must be before the year 10000; null is for never",
        ),
        (LISTING, "missing_permissions", "Instance IDs required when permission mode is 'per_instance'"),
        (
            {**LISTING, "instance_ids": []},
            "missing_permissions",
            "Instance IDs required when permission mode is 'per_instance'",
        ),
        ({**LISTING, "instance_ids": [9999]}, "invalid_instance_id", "Instance ID 9999 does not exist"),
        ({**LISTING, "instance_ids": [-1]}, "invalid_instance_id", "Instance ID -1 does not exist"),
        ({**LISTING, "instance_ids": [10**30]}, "invalid_instance_id", f"Instance ID {10**30} does not exist"),
        ({**FULL, "kind": "super"}, "invalid_kind", "Kind must be 'inference' or 'management'"),
        ({**FULL, "note": "x" * 501}, "invalid_note", "Note must be 500 characters or less"),
        (
            {**FULL, "limits": [{"unit": "requests", "window": "year", "limit": 1}]},
            "invalid_limits",
            "A limit's unit must be 'requests' or 'tokens', its window 'minute', 'day' or 'month'",
        ),
        (
            {**FULL, "limits": [{"unit": [], "window": {}, "limit": 1}]},
            "invalid_limits",
            "A limit's unit must be 'requests' or 'tokens', its window 'minute', 'day' or 'month'",
        ),
        (
            {**FULL, "limits": [{"unit": "tokens", "window": "day", "limit": -1}]},
            "invalid_limits",
            f"A limit must be a number from 0 to {10**15}",
        ),
        (
            {**FULL, "limits": [{"unit": "tokens", "window": "day", "limit": 1}] * 2},
            "invalid_limits",
            "There are two limits of tokens per day",
        ),
        ({**FULL, "user": "nobody"}, "invalid_user", "There is no active user 'nobody'"),
        ({**FULL, "key": "short"}, "invalid_key", "key: 16 to 256 printable ASCII characters without spaces."),
    ],
)
def test_what_cannot_be_used_is_refused_in_these_words(api: ApiClient, body: object, code: str, details: str) -> None:
    answer = api("POST", "auth/keys", body)

    assert answer.status_code == 400
    shown = answer.json()
    assert (shown["error"], shown["details"]) == (code, details)
    assert ("fields" in shown) is (code == "invalid_json")
    assert not ApiKey.objects.exclude(kind=KeyKind.MANAGEMENT).exists()


@pytest.mark.parametrize("method", ["GET", "DELETE", "PATCH", "POST rotate", "POST revoke", "GET permissions"])
@pytest.mark.parametrize(
    ("key_id", "answered"),
    [
        ("x", (400, "invalid_id", "Invalid key ID")),
        ("1.0", (400, "invalid_id", "Invalid key ID")),
        ("99999999999999999999", (400, "invalid_id", "Invalid key ID")),
        ("9223372036854775808", (400, "invalid_id", "Invalid key ID")),
        ("9223372036854775807", (404, "not_found", "API key not found")),
        ("-1", (404, "not_found", "API key not found")),
        ("4711", (404, "not_found", "API key not found")),
    ],
)
def test_a_key_that_is_not_there_is_told_in_these_words(
    api: ApiClient, method: str, key_id: str, answered: tuple[int, str, str]
) -> None:
    status, code, details = answered
    verb, _, action = method.partition(" ")
    answer = api(verb, f"auth/keys/{key_id}" + (f"/{action}" if action else ""), {} if verb != "GET" else None)

    assert (answer.status_code, answer.json()) == (status, {"error": code, "details": details})


def test_a_new_key_is_shown_with_its_secret_once(api: ApiClient, admin: User) -> None:
    second, first = make_instance("beta"), make_instance("alpha")
    end = int(time.time()) + 3600

    made = make(
        api,
        permission_mode="per_instance",
        instance_ids=[first.pk, second.pk, first.pk],
        expires_at=end,
        note=" for the nightly run ",
        can_evict=False,
        limits=[{"unit": "tokens", "window": "day", "limit": 5000}],
        unknown="ignored",
    )

    secret = made.pop("key")
    assert re.fullmatch(r"corral-[0-9a-f]{64}", secret)
    assert made.keys() > LLAMACTL
    assert made["user_id"] == "ada"
    assert made["expires_at"] == end
    assert made["last_used_at"] is None
    assert abs(made["created_at"] - time.time()) < 60
    assert made["instance_ids"] == sorted([first.pk, second.pk])
    assert (made["note"], made["can_start"], made["can_evict"]) == ("for the nightly run", True, False)
    assert made["limits"] == [{"unit": "tokens", "window": "day", "limit": 5000}]
    assert api("GET", f"auth/keys/{made['id']}").json() == made
    assert api("GET", "auth/keys/").json()[0] == made
    assert secret not in api("GET", "auth/keys").content.decode()
    assert api("GET", f"auth/keys/{made['id']}/permissions").json() == [
        {"instance_id": second.pk, "instance_name": "beta"},
        {"instance_id": first.pk, "instance_name": "alpha"},
    ]
    assert find_key(secret) == ApiKey.objects.get(pk=made["id"])


def test_management_keys_have_their_own_prefix(api: ApiClient) -> None:
    assert re.fullmatch(r"corral-mgmt-[0-9a-f]{64}", make(api, kind="management")["key"])


def test_a_key_for_all_instances_lists_none_and_ignores_a_list(api: ApiClient) -> None:
    made = make(api, instance_ids=[9999])
    assert made["instance_ids"] == []
    assert api("GET", f"auth/keys/{made['id']}/permissions").json() == []


def test_a_deleted_key_is_gone_and_a_revoked_one_stays_in_the_list(api: ApiClient) -> None:
    gone, ended = make(api), make(api)

    assert api("DELETE", f"auth/keys/{gone['id']}").status_code == 204
    revoked = api("POST", f"auth/keys/{ended['id']}/revoke").json()

    assert api("GET", f"auth/keys/{gone['id']}").status_code == 404
    assert revoked["revoked_at"] is not None
    assert [find_key(key["key"]) for key in (gone, ended)] == [None, None]
    for method, path in (("PATCH", ""), ("POST", "/rotate")):
        answer = api(method, f"auth/keys/{ended['id']}{path}", {})
        assert (answer.status_code, answer.json()["error"]) == (409, "key_revoked")


def test_expired_keys_are_listed(api: ApiClient) -> None:
    made = make(api)
    ApiKey.objects.filter(pk=made["id"]).update(expires_at=timezone.now() - timedelta(days=1))
    assert api("GET", "auth/keys").json()[0]["id"] == made["id"]


def test_a_change_touches_what_it_names_only(api: ApiClient) -> None:
    instance = make_instance("alpha")
    made = make(api, note="old", limits=[{"unit": "requests", "window": "minute", "limit": 5}])
    end = int(time.time()) + 60

    changed = api(
        "PATCH",
        f"auth/keys/{made['id']}",
        {"name": "new", "permission_mode": "per_instance", "instance_ids": [instance.pk], "expires_at": end},
    ).json()
    assert (changed["name"], changed["note"], changed["expires_at"]) == ("new", "old", end)
    assert (changed["instance_ids"], changed["limits"]) == ([instance.pk], made["limits"])

    changed = api("PATCH", f"auth/keys/{made['id']}", {"expires_at": None, "limits": []}).json()
    assert (changed["expires_at"], changed["limits"], changed["instance_ids"]) == (None, [], [instance.pk])
    assert find_key(made["key"]) is not None

    for body in ({"kind": "management"}, {"user": "ada"}, {"key": "x" * 20}):
        answer = api("PATCH", f"auth/keys/{made['id']}", body)
        assert (answer.status_code, answer.json()["error"]) == (400, f"invalid_{next(iter(body))}")
    answer = api("PATCH", f"auth/keys/{make(api)['id']}", {"permission_mode": "per_instance"})
    assert answer.json()["error"] == "missing_permissions"


def test_a_rotated_key_has_a_new_secret_and_the_old_one_dies_at_once_or_after_its_grace(api: ApiClient) -> None:
    made = make(api)
    first = api("POST", f"auth/keys/{made['id']}/rotate").json()
    assert first["id"] == made["id"]
    assert (find_key(made["key"]), first["former_ends_at"]) == (None, None)

    second = api("POST", f"auth/keys/{made['id']}/rotate", {"grace": 3600}).json()
    assert second["former_ends_at"] == pytest.approx(time.time() + 3600, abs=60)
    assert [find_key(key["key"]) is not None for key in (first, second)] == [True, True]
    ApiKey.objects.update(former_ends_at=timezone.now() - timedelta(seconds=1))
    assert [find_key(key["key"]) is not None for key in (first, second)] == [False, True]

    for grace in (-1, 604_801, 1.5, "x", None):
        assert api("POST", f"auth/keys/{made['id']}/rotate", {"grace": grace}).json()["error"] == "invalid_grace"
    assert api("POST", f"auth/keys/{made['id']}/rotate", [1]).status_code == 400


def test_keys_of_llamactl_are_taken_over_by_administrators(
    api: ApiClient, operator: User, api_of: Callable[[User], ApiClient]
) -> None:
    plain, management = "llamactl-" + "a" * 64, "llamactl-mgmt-" + "b" * 64

    made = make(api, key=plain, user="olga")
    assert (made["kind"], made["user_id"], made["key_hint"]) == ("inference", "olga", "llamactl-aaaa")
    assert make(api, key=management)["kind"] == "management"

    key = find_key(plain)
    assert key is not None
    assert key.key_hash == hash_key(plain)
    again = api("POST", "auth/keys", {**FULL, "key": plain})
    assert (again.status_code, again.json()["details"]) == (400, "key: this key exists already.")
    refused = api_of(operator)("POST", "auth/keys", {**FULL, "key": "llamactl-" + "c" * 64})
    assert (refused.status_code, refused.json()["error"]) == (403, "permission_denied")


# Whose keys


def test_people_have_their_own_keys_and_administrators_everybodys(
    api: ApiClient, admin: User, operator: User, member: User, api_of: Callable[[User], ApiClient]
) -> None:
    mine, others = api_of(member), api_of(operator)
    key = make(mine)
    path = f"auth/keys/{key['id']}"

    assert {one["user_id"] for one in mine("GET", "auth/keys").json()} == {"mia"}
    assert {one["user_id"] for one in api("GET", "auth/keys").json()} == {"ada", "olga", "mia"}
    assert {one["user_id"] for one in api("GET", "auth/keys?user=mia,olga").json()} == {"olga", "mia"}
    assert mine("GET", "auth/keys?user=ada").json() == []
    for method, end in (("GET", ""), ("DELETE", ""), ("PATCH", ""), ("POST", "/rotate"), ("GET", "/permissions")):
        answer = others(method, path + end, {} if method != "GET" else None)
        assert (answer.status_code, answer.json()["error"]) == (404, "not_found"), (method, end)
    assert others("POST", "auth/keys", {**FULL, "user": "mia"}).status_code == 403
    assert make(api, user="mia")["user_id"] == "mia"
    assert api("DELETE", path).status_code == 204


def test_a_key_lists_only_instances_that_its_owner_may_use(
    api: ApiClient, member: User, api_of: Callable[[User], ApiClient]
) -> None:
    shared, hidden = make_instance("shared"), make_instance("hidden")
    share = InstanceShare.objects.create(instance=shared, user=member, level="use")
    mine = api_of(member)

    made = make(mine, permission_mode="per_instance", instance_ids=[shared.pk])
    for client, extra in ((mine, {}), (api, {"user": "mia"})):
        answer = client("POST", "auth/keys", {**LISTING, "instance_ids": [hidden.pk], **extra})
        assert answer.json()["details"] == f"Instance ID {hidden.pk} does not exist"

    share.delete()
    permissions = f"auth/keys/{made['id']}/permissions"
    assert mine("GET", permissions).json() == [{"instance_id": shared.pk, "instance_name": ""}]
    assert api("GET", permissions).json() == [{"instance_id": shared.pk, "instance_name": "shared"}]
    assert mine("PATCH", f"auth/keys/{made['id']}", {"note": "still mine"}).status_code == 200


def restrict(user: User, **changes: Any) -> tuple[ApiClient, ApiKey]:
    """A client with a management key of this person that is less than the person."""
    limits = changes.pop("limits", {})
    instances = changes.pop("instances", [])
    key, plain = create_key(actor=CORRAL, user=user, name="restricted", kind=KeyKind.MANAGEMENT, **changes)
    KeyPermission.objects.bulk_create(KeyPermission(api_key=key, instance=instance) for instance in instances)
    for (unit, window), limit in limits.items():
        Quota.objects.create(key=key, unit=unit, window=window, limit=limit)
    return ApiClient(plain), key


def test_a_key_for_chosen_instances_makes_and_changes_none_that_opens_more(admin: User, operator: User) -> None:
    alpha, beta = make_instance("alpha"), make_instance("beta")
    client, own = restrict(admin, permission_mode=PermissionMode.PER_INSTANCE, instances=[alpha])
    strong, _ = create_key(actor=CORRAL, user=admin, name="strong")
    foreign, _ = create_key(actor=CORRAL, user=operator, name="foreign")

    assert client("POST", "auth/keys", {**LISTING, "instance_ids": [alpha.pk]}).status_code == 201
    for body in (FULL, {**LISTING, "instance_ids": [alpha.pk, beta.pk]}):
        answer = client("POST", "auth/keys", body)
        assert (answer.status_code, answer.json()["error"]) == (403, "permission_denied")
    for pk, body in ((own.pk, {"permission_mode": "allow_all"}), (strong.pk, {"note": "mine now"})):
        assert client("PATCH", f"auth/keys/{pk}", body).status_code == 403
    assert client("POST", f"auth/keys/{strong.pk}/rotate").status_code == 403  # its secret would open more
    assert client("POST", f"auth/keys/{own.pk}/rotate").status_code == 200
    assert client("GET", f"auth/keys/{foreign.pk}").status_code in (401, 404)  # its own secret has just changed


@pytest.mark.parametrize(
    ("restriction", "refused", "allowed"),
    [
        ("expiry", {"expires_at": None}, {"expires_at": 3000}),
        ("expiry", {"expires_at": 7000}, {"expires_at": 3600}),
        ("can_start", {"can_start": True}, {"can_start": False}),
        ("can_evict", {"can_evict": True}, {}),
    ],
)
def test_a_key_never_makes_one_that_can_do_more(
    admin: User, restriction: str, refused: dict[str, Any], allowed: dict[str, Any]
) -> None:
    end = timezone.now().replace(microsecond=0) + timedelta(seconds=3600)
    client, _ = restrict(admin, **({"expires_at": end} if restriction == "expiry" else {restriction: False}))

    def absolute(body: dict[str, Any]) -> dict[str, Any]:
        if isinstance(body.get("expires_at"), int):
            return {"expires_at": int(end.timestamp()) - 3600 + body["expires_at"]}
        return body

    assert client("POST", "auth/keys", {**FULL, **absolute(refused)}).status_code == 403
    assert client("POST", "auth/keys", {**FULL, **absolute(allowed)}).status_code == 201


def test_a_key_with_limits_makes_none_as_each_would_bring_a_new_allowance(admin: User) -> None:
    client, own = restrict(admin, limits={("requests", "day"): 10})
    assert client("POST", "auth/keys", FULL).status_code == 403
    assert client("PATCH", f"auth/keys/{own.pk}", {"limits": []}).status_code == 403


def test_what_is_done_with_keys_is_in_the_audit_without_a_secret(api: ApiClient) -> None:
    made = make(api, note="n")
    api("PATCH", f"auth/keys/{made['id']}", {"note": "m", "limits": [{"unit": "tokens", "window": "day", "limit": 1}]})
    api("POST", f"auth/keys/{made['id']}/rotate")
    api("POST", f"auth/keys/{made['id']}/revoke")
    api("DELETE", f"auth/keys/{made['id']}")

    entries = list(AuditEntry.objects.filter(target_type="apikey", target_id=str(made["id"])).order_by("id"))

    assert [entry.action for entry in entries] == [
        "key.create", "key.change", "key.rotate", "key.revoke", "key.delete",
    ]  # fmt: skip
    assert entries[1].before["note"] == "n"
    assert entries[1].after == {"note": "m", "limits": {"tokens per day": 1}}
    for entry in entries:
        assert made["key"] not in f"{entry.before} {entry.after}"


def test_without_management_auth_keys_belong_to_the_automation(db: None, change_settings: Callable[..., None]) -> None:
    change_settings(require_management_auth=False)
    assert make(ApiClient())["user_id"] == "system"


def test_two_keys_may_have_one_name_which_is_kept_as_it_is(api: ApiClient) -> None:
    assert [make(api, name=" twice ")["name"] for _ in range(2)] == [" twice "] * 2


def test_inference_keys_manage_nothing(admin: User) -> None:
    client = ApiClient(make_key(admin, KeyKind.INFERENCE))
    assert client("GET", "auth/keys").status_code == 401


def test_a_manager_of_nobody_sees_nobody(db: None, api_of: Callable[[User], ApiClient]) -> None:
    make_key(make_user("otto", Role.OPERATOR))
    assert len(api_of(make_user("max"))("GET", "auth/keys").json()) == 1
