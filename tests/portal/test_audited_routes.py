"""Every address that changes something leaves an audit entry, or is listed here with the reason why not.

The routes come from the URL configuration and the gateway's catalogue, their methods from real requests: what is not
answered 405 is taken for a write. A new write that is not listed fails the test. The actions are searched for in the
domain's calls of ``record_change``, and a second test makes real requests.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from accounts.domain.origins import current_origin
from accounts.enums import AuditSource
from accounts.models import AuditEntry, User
from gateway.catalogue import ROUTES
from instances.models import Instance
from portal.cli import main
from tests.conftest import ApiClient
from tests.factories import make_instance, make_user
from tests.system.stack import ROOT

WRITES = ("POST", "PUT", "PATCH", "DELETE")
READS_ONLY = "exempt: it answers a question and changes nothing"
CONFIRMS = "exempt: it says again who asks, and changes nothing"
INFERENCE = "exempt: a request to an engine; the activity has it"

AUDITED = {
    # Management API
    "POST api/v1/instances/<str:name>": "instance.create",
    "PUT api/v1/instances/<str:name>": "instance.update",
    "PATCH api/v1/instances/<str:name>": "instance.update",
    "DELETE api/v1/instances/<str:name>": "instance.delete",
    "POST api/v1/instances/<str:name>/start": "instance.start",
    "POST api/v1/instances/<str:name>/stop": "instance.stop",
    "POST api/v1/instances/<str:name>/restart": "instance.restart",
    "PUT api/v1/instances/<str:name>/shares/users/<str:user>": "instance.share",
    "DELETE api/v1/instances/<str:name>/shares/users/<str:user>": "instance.unshare",
    "PUT api/v1/instances/<str:name>/shares/teams/<path:team>": "instance.share",
    "DELETE api/v1/instances/<str:name>/shares/teams/<path:team>": "instance.unshare",
    "PUT api/v1/instances/<str:name>/owner": "instance.change_owner",
    "POST api/v1/auth/keys": "key.create",
    "PATCH api/v1/auth/keys/<str:key_id>": "key.change",
    "DELETE api/v1/auth/keys/<str:key_id>": "key.delete",
    "POST api/v1/auth/keys/<str:key_id>/rotate": "key.rotate",
    "POST api/v1/auth/keys/<str:key_id>/revoke": "key.revoke",
    "POST api/v1/quotas": "quota.create",
    "PATCH api/v1/quotas/<int:pk>": "quota.change",
    "DELETE api/v1/quotas/<int:pk>": "quota.delete",
    "POST api/v1/users": "user.create",
    "PATCH api/v1/users/<int:user_id>": "user.change_role",
    "DELETE api/v1/users/<int:user_id>": "user.delete",
    "POST api/v1/teams": "team.create",
    "PATCH api/v1/teams/<int:team_id>": "team.update",
    "DELETE api/v1/teams/<int:team_id>": "team.delete",
    "PUT api/v1/teams/<int:team_id>/members/<str:username>": "team.add_member",
    "DELETE api/v1/teams/<int:team_id>/members/<str:username>": "team.remove_member",
    "POST api/v1/invitations": "invitation.create",
    "DELETE api/v1/invitations/<int:invitation_id>": "invitation.withdraw",
    "POST api/v1/backends/llama-cpp/parse-command": READS_ONLY,
    "POST api/v1/backends/mlx/parse-command": READS_ONLY,
    "POST api/v1/backends/vllm/parse-command": READS_ONLY,
    # Pages
    "POST login": "session.sign_in",
    "PUT login": "session.sign_in",
    "POST logout": "session.sign_out",
    "POST login/code": "session.sign_in",
    "POST login/passkey": "session.sign_in",
    "POST login/confirm": CONFIRMS,
    "POST login/confirm/code": CONFIRMS,
    "POST login/confirm/passkey": CONFIRMS,
    "POST setup/<str:token>": "user.create",
    "POST invitation/<str:token>": "invitation.accept",
    "POST register": "user.register",
    "POST profile/details": "user.update",
    "POST profile/password": "user.set_password",
    "POST profile/sessions/end": "session.end",
    "POST profile/sessions/<int:session_id>/end": "session.end",
    "POST profile/app": "user.add_second_factor",
    "POST profile/app/remove": "user.remove_second_factor",
    "POST profile/recovery-codes/new": "user.add_second_factor",
    "POST profile/passkeys/add": "user.add_second_factor",
    "POST profile/passkeys/<int:pk>/rename": "exempt: a name that only its person sees",
    "POST profile/passkeys/<int:pk>/remove": "user.remove_second_factor",
    "POST people/invite": "invitation.create",
    "POST people/invitations/<int:invitation_id>/withdraw": "invitation.withdraw",
    "POST people/<int:user_id>/role": "user.change_role",
    "POST people/<int:user_id>/activate": "user.activate",
    "POST people/<int:user_id>/deactivate": "user.deactivate",
    "POST people/<int:user_id>/password": "user.set_password",
    "POST people/<int:user_id>/second-factors/remove": "user.remove_second_factor",
    "POST people/<int:user_id>/delete": "user.delete",
    "POST teams": "team.create",
    "POST teams/<int:team_id>/rename": "team.update",
    "POST teams/<int:team_id>/delete": "team.delete",
    "POST teams/<int:team_id>/members": "team.add_member",
    "POST teams/<int:team_id>/members/<int:user_id>/remove": "team.remove_member",
    "POST teams/<int:team_id>/members/<int:user_id>/manager": "team.set_manager",
    "POST instances/new": "instance.create",
    "POST instances/<instance:name>/edit": "instance.update",
    "POST instances/<instance:name>/start": "instance.start",
    "POST instances/<instance:name>/stop": "instance.stop",
    "POST instances/<instance:name>/restart": "instance.restart",
    "POST instances/<instance:name>/delete": "instance.delete",
    "POST instances/<instance:name>/sharing": "instance.share",
    "POST instances/<instance:name>/owner": "instance.change_owner",
    "POST keys/new": "key.create",
    "POST keys/<int:pk>": "key.change",
    "POST keys/<int:pk>/rotate": "key.rotate",
    "POST keys/<int:pk>/revoke": "key.revoke",
    "POST keys/<int:pk>/delete": "key.delete",
    "POST limits": "quota.create",
    "POST limits/<int:pk>/delete": "quota.delete",
}
"""What each write of Django's routes leaves, by method and route without the slash at its end."""

GATEWAY = {
    "DELETE /upstream/{model}": "instance.stop",
    "GET /upstream/{model}/load": "instance.load",
    "GET /unload": "instance.stop",
    "POST /unload": "instance.stop",
    "POST /api/models/unload": "instance.stop",
    "POST /api/models/unload/{model}": "instance.stop",
    "POST /api/v1/llama-cpp/{name}/models/{model}/load": "instance.load_model",
    "POST /api/v1/llama-cpp/{name}/models/{model}/unload": "instance.unload_model",
    **{f"{method} /api/v1/instances/{{name}}/proxy/{{path}}": INFERENCE for method in WRITES},
}
"""What each write of the gateway's management routes leaves; its inference routes are the activity's."""


def walk(patterns: list[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the routes and their views but for the admin site's, which tests/accounts/test_admin.py walks."""
    for pattern in patterns:
        route = f"{prefix}{pattern.pattern}"
        if route.startswith("admin/"):
            continue
        if isinstance(pattern, URLResolver):
            yield from walk(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern):
            yield route, pattern.callback


def address_of(route: str) -> str:
    """Return an address that the route matches and where nothing is."""
    route = re.sub(r"<int:\w+>", "999", re.sub(r"\^api.*", "api/nothing", route))
    return "/" + re.sub(r"<\w+:\w+>", "nothing", route)


def list_writes(client: Client, admin: User) -> set[str]:
    """Return the methods and routes that take writes, by asking."""
    found = set()
    for route, view in walk(get_resolver().url_patterns):
        view_class = getattr(view, "view_class", None) or getattr(view, "cls", None)
        for method in WRITES:
            if view_class is not None and not hasattr(view_class, method.lower()):
                continue
            if "_auth_user_id" not in client.session:
                client.force_login(admin)
            answer = client.generic(method, address_of(route))
            if answer.status_code != 405:
                found.add(f"{method} {route.rstrip('/')}")
    return found


def test_every_write_is_audited_or_exempt_with_a_reason(admin: User) -> None:
    found = list_writes(Client(), admin)

    assert sorted(found - AUDITED.keys()) == [], (
        "a new write: call record_change in its domain function and list it here"
    )
    assert sorted(AUDITED.keys() - found) == [], "listed but not there any more"


def test_every_write_of_the_gateway_is_audited_or_exempt_with_a_reason() -> None:
    management = {
        f"{method} {route.path}"
        for route in ROUTES
        for method in route.methods
        if route.access == "management" and (method in WRITES or route.path == "/unload")
    }

    assert management | {"GET /upstream/{model}/load"} == GATEWAY.keys()


def test_the_actions_are_those_that_the_code_records() -> None:
    source = "\n".join(
        path.read_text()
        for app in ("accounts", "gateway", "instances", "portal")
        for path in (ROOT / app).rglob("*.py")
    )
    recorded = set(re.findall(r'"(\w+\.\w+)"', source))
    kinds = {f"instance.{kind}" for kind in re.findall(r'kind="(\w+)"', source)}  # f"instance.{kind}"
    kinds |= {f"instance.{action}" for action in re.findall(r'"(load\w*|unload\w*)"', source)}

    wanted = {action for action in (*AUDITED.values(), *GATEWAY.values()) if not action.startswith("exempt: ")}

    assert wanted - recorded - kinds == set()


def test_real_requests_leave_their_entries(api: ApiClient, admin: User) -> None:
    make_user("mia")
    options = {"backend_type": "llama_cpp"}
    key = api("POST", "auth/keys", {"name": "mine", "permission_mode": "allow_all"}).json()
    requests: list[tuple[str, str, object]] = [
        ("POST", "instances/alpha?start=false", options),
        ("PUT", "instances/alpha", {**options, "group": "a"}),
        ("PATCH", "instances/alpha", {"group": "b"}),
        ("PUT", "instances/alpha/shares/users/mia", {"level": "use"}),
        ("DELETE", "instances/alpha/shares/users/mia", None),
        ("PUT", "instances/alpha/owner", {"owner": "mia"}),
        ("DELETE", "instances/alpha", None),
        ("PATCH", f"auth/keys/{key['id']}", {"name": "other"}),
        ("POST", f"auth/keys/{key['id']}/rotate", {}),
        ("POST", f"auth/keys/{key['id']}/revoke", {}),
        ("DELETE", f"auth/keys/{key['id']}", None),
    ]

    seen = []
    for method, path, body in requests:
        AuditEntry.objects.all().delete()
        answer = api(method, path, body)
        assert answer.status_code < 300, (method, path, answer.content)
        seen += [(entry.action, entry.source, entry.client_address) for entry in AuditEntry.objects.all()]

    expected = (
        "instance.create", "instance.update", "instance.update", "instance.share", "instance.unshare",
        "instance.change_owner", "instance.delete", "key.change", "key.rotate", "key.revoke", "key.delete",
    )  # fmt: skip
    assert seen == [(action, "api", "127.0.0.1") for action in expected]


def test_pages_leave_their_entries_too(admin: User) -> None:
    client = Client()
    client.force_login(admin)
    make_instance("alpha")
    AuditEntry.objects.all().delete()

    client.post("/instances/alpha/delete/")

    assert not Instance.objects.exists()
    (entry,) = AuditEntry.objects.all()
    assert (entry.action, entry.source, entry.actor, entry.key_id) == ("instance.delete", "page", "user:ada", None)


@pytest.mark.any_database
@pytest.mark.parametrize("route", ["<int:pk>/x", "^api(/|$)", "a/<path:b>"])
def test_addresses_are_made_of_routes(route: str) -> None:
    assert "<" not in address_of(route)


@pytest.mark.any_database
def test_commands_count_as_the_command_lines_doing(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(
        "django.core.management.execute_from_command_line", lambda words: seen.append((words, current_origin().source))
    )

    assert main(["createuser", "ada"]) == 0

    assert seen == [(["corral", "createuser", "ada"], AuditSource.COMMAND_LINE)]
    assert current_origin().source == AuditSource.CORRAL


@pytest.mark.any_database
@pytest.mark.parametrize("command", ["createsuperuser", "changepassword"])
def test_djangos_commands_that_go_round_the_rules_are_refused(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command]) == 1

    assert "leaves an audit entry" in capsys.readouterr().err
