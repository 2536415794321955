"""Signing in by OpenID Connect against a real provider in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from django.test import Client

from accounts.domain.actors import actor_for
from accounts.domain.leaving import deactivate_user
from accounts.enums import Role
from accounts.models import AuditEntry, Team, User
from accounts.oidc import OidcProvider, allauth_apps, choose_role, find_provider_fault, is_email_allowed
from tests.accounts.signin.provider import run_provider
from tests.factories import make_user

pytestmark = pytest.mark.django_db
ROLES = {"staff": "operator", "it": "admin"}


@pytest.fixture(scope="session")
def issuer() -> Iterator[str]:
    """The address of a running provider."""
    with run_provider() as address:
        yield address


Configure = Callable[..., OidcProvider]


@pytest.fixture
def configure(issuer: str, change_settings: Callable[..., None], settings: Any) -> Configure:
    """Return a function that lets people in by the provider."""

    def change(**fields: Any) -> OidcProvider:
        provider = OidcProvider(
            id="acme", name="Acme", server_url=issuer, client_id="corral", client_secret="hush", **fields
        )
        change_settings(oidc_providers=[provider])
        settings.SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"APPS": allauth_apps([provider])}}
        return provider

    return change


def come(issuer: str, subject: str, next_url: str = "", **claims: Any) -> tuple[Client, Any]:
    """Sign in as this subject, about whom the provider says these claims; return the browser and the last answer."""
    httpx.put(f"{issuer}/users/{subject}", json={"sub": subject, **claims}).raise_for_status()
    client = Client(headers={"host": "corral.example"})
    begun = client.get(f"/oidc/acme/login/{f'?next={next_url}' if next_url else ''}")
    assert begun.status_code == 302
    agreed = httpx.post(begun.headers["Location"], data={"sub": subject})
    assert agreed.status_code == 302
    back = urlsplit(agreed.headers["Location"])
    assert (back.netloc, back.path) == ("corral.example", "/oidc/acme/login/callback/")
    return client, client.get(f"{back.path}?{back.query}")


def is_in(client: Client) -> bool:
    return client.get("/profile/").status_code == 200


def test_a_person_comes_is_promoted_and_is_demoted_at_the_next_sign_in(issuer: str, configure: Configure) -> None:
    configure(roles=ROLES, teams={"staff": "Research"})
    make_user("root", Role.ADMIN)  # so that the other is not the last one

    client, answer = come(issuer, "s1", "/teams/", preferred_username="anna", email="anna@acme.example", groups=["it"])
    assert answer.headers["Location"] == "/teams/"
    assert is_in(client)
    anna = User.objects.get(username="anna")
    assert (anna.role, anna.email, anna.has_usable_password()) == (Role.ADMIN, "anna@acme.example", False)
    assert not Team.objects.exists()

    come(issuer, "s1", preferred_username="anna", groups=["staff", "unknown"])
    anna.refresh_from_db()
    assert anna.role == Role.OPERATOR
    assert [group.name for group in anna.groups.all()] == ["Research"]

    come(issuer, "s1", preferred_username="anna", groups=[])
    anna.refresh_from_db()
    assert anna.role == Role.MEMBER
    assert not anna.groups.exists()
    assert not anna.is_superuser

    entries = AuditEntry.objects.filter(actor="provider:acme").order_by("pk")
    assert list(entries.values_list("action", flat=True)) == [
        "user.create", "user.change_role", "team.create", "team.add_member", "user.change_role", "team.remove_member",
    ]  # fmt: skip


def test_whoever_comes_first_gets_the_name_and_nobody_gets_anothers_account(issuer: str, configure: Configure) -> None:
    configure()
    ada = make_user("ada", Role.ADMIN)
    User.objects.filter(pk=ada.pk).update(email="ada@acme.example")
    client, _ = come(issuer, "s2", preferred_username="ada", email="ada@acme.example", email_verified=True)
    assert is_in(client)
    other = User.objects.get(socialaccount__uid="s2")
    assert other != ada
    assert other.username != "ada"
    assert other.role == Role.MEMBER


def test_the_last_administrator_is_not_demoted_by_a_provider(issuer: str, configure: Configure) -> None:
    configure(roles=ROLES)
    come(issuer, "s3", preferred_username="anna", groups=["it"])
    client, _ = come(issuer, "s3", preferred_username="anna", groups=[])
    assert is_in(client)
    assert User.objects.get(username="anna").role == Role.ADMIN


def test_without_a_group_and_a_default_role_nobody_comes_in(issuer: str, configure: Configure) -> None:
    configure(roles=ROLES, default_role=None)
    client, answer = come(issuer, "s4", preferred_username="anna", groups=["unknown"])
    assert answer.status_code == 403
    assert not is_in(client)
    assert not User.objects.exists()


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"email": "anna@acme.example", "email_verified": True}, 302),
        ({"email": "anna@ACME.example", "email_verified": True}, 302),
        ({"email": "anna@acme.example", "email_verified": False}, 403),
        ({"email": "anna@acme.example"}, 403),
        ({"email": "anna@evil.example", "email_verified": True}, 403),
        ({"email": "anna@acme.example.evil.example", "email_verified": True}, 403),
        ({}, 403),
    ],
)
def test_only_verified_addresses_of_the_domain_come_in(
    issuer: str, configure: Configure, claims: dict[str, Any], status: int
) -> None:
    configure(email_domains=["acme.example"])
    assert come(issuer, "s5", preferred_username="anna", **claims)[1].status_code == status


def test_who_is_deactivated_here_does_not_come_in_there(issuer: str, configure: Configure, admin: User) -> None:
    configure(roles=ROLES)
    client, _ = come(issuer, "s6", preferred_username="anna", groups=["it"])
    anna = User.objects.get(username="anna")
    deactivate_user(actor=actor_for(admin), user=anna)
    assert not is_in(client)
    again, answer = come(issuer, "s6", preferred_username="anna", groups=["it"])
    assert answer.status_code == 403
    assert not is_in(again)


def test_the_page_offers_the_provider_and_keeps_where_to_go(issuer: str, configure: Configure) -> None:
    configure()
    page = Client().get("/login/?next=/teams/").content.decode()
    assert 'href="/oidc/acme/login/?next=/teams/"' in page
    assert "Sign in with Acme" in page
    assert come(issuer, "s7", "https://evil.example/")[1].headers["Location"] == "/"


def test_answers_that_were_not_asked_for_are_refused(issuer: str, configure: Configure) -> None:
    configure()
    assert Client().get("/oidc/acme/login/callback/?code=x&state=y").status_code == 401
    assert Client().get("/oidc/acme/login/callback/").status_code == 401
    assert Client().get("/oidc/other/login/").status_code == 404
    assert Client().post("/oidc/acme/login/").status_code == 405
    for process in ("connect", "redirect"):
        assert Client().get(f"/oidc/acme/login/?process={process}").status_code == 404


def test_a_provider_that_is_away_is_no_error_of_ours(configure: Configure, settings: Any) -> None:
    provider = configure()
    away = OidcProvider(id="acme", name="Acme", server_url="http://127.0.0.1:1", client_id=provider.client_id)
    settings.SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"APPS": allauth_apps([away])}}
    answer = Client().get("/oidc/acme/login/")
    assert answer.status_code in (401, 502)
    assert "Signing in failed" in answer.content.decode()


def make_provider(**fields: Any) -> OidcProvider:
    return OidcProvider(
        **{"id": "acme", "name": "Acme", "server_url": "https://id.example", "client_id": "x", **fields}
    )


@pytest.mark.any_database
def test_the_strongest_group_counts() -> None:
    provider = make_provider(roles=ROLES, groups_claim="memberOf")
    assert choose_role(provider, {"memberOf": ["staff", "it"]}) == "admin"
    assert choose_role(provider, {"memberOf": "staff"}) == "operator"
    assert choose_role(provider, {"memberOf": None}) == "member"
    assert choose_role(provider, {"groups": ["it"]}) == "member"
    assert is_email_allowed(provider, {})


@pytest.mark.any_database
@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({}, ""),
        ({"id": "Acme"}, "small letters"),
        ({"server_url": "id.example"}, "https://"),
        ({"client_id": ""}, "client_id"),
        ({"scopes": ["email"]}, "openid"),
    ],
)
def test_faults_of_the_setting_are_named(fields: dict[str, Any], fault: str) -> None:
    found = find_provider_fault([make_provider(**fields)])
    assert fault in found
    assert bool(found) == bool(fault)
    assert "twice" in find_provider_fault([make_provider(), make_provider()])


@pytest.mark.any_database
def test_the_secret_is_never_shown() -> None:
    assert "hush" not in repr(make_provider(client_secret="hush"))
