"""Providers that people may sign in by (OpenID Connect), as the setting ``oidc_providers`` names them.

Imports nothing of Django, as settings are read without it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

RoleName = Literal["admin", "operator", "member"]
STRENGTH: tuple[RoleName, ...] = ("member", "operator", "admin")
ID = re.compile(r"[a-z0-9][a-z0-9-]{0,29}")


class OidcProvider(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One provider. ``roles`` and ``teams`` map its groups to ours; they count anew at each sign-in.

    Whoever is in no group of ``roles`` gets ``default_role``, or is refused when that is null. With ``email_domains``
    only people get in whose address the provider has verified and that ends so.
    """

    id: str
    name: str
    server_url: str
    client_id: str
    client_secret: str = ""
    scopes: list[str] = msgspec.field(default_factory=lambda: ["openid", "profile", "email"])
    groups_claim: str = "groups"
    roles: dict[str, RoleName] = msgspec.field(default_factory=dict)
    teams: dict[str, str] = msgspec.field(default_factory=dict)
    default_role: RoleName | None = "member"
    email_domains: list[str] = msgspec.field(default_factory=list)

    def __repr__(self) -> str:
        return f"<OidcProvider {self.id}>"  # never the secret


def find_provider_fault(providers: Sequence[OidcProvider]) -> str:
    """Return what is wrong with the providers as the end of a sentence, or an empty text."""
    seen = set()
    for provider in providers:
        if not ID.fullmatch(provider.id):
            return f"the id {provider.id!r} must be small letters, digits and dashes"
        if provider.id in seen:
            return f"the id {provider.id} is there twice"
        seen.add(provider.id)
        if not provider.server_url.startswith(("https://", "http://")):
            return f"server_url of {provider.id} must begin with https://"
        if not provider.client_id or not provider.name:
            return f"{provider.id} needs a name and a client_id"
        if "openid" not in provider.scopes:
            return f"scopes of {provider.id} must contain openid"
    return ""


def allauth_apps(providers: Sequence[OidcProvider]) -> list[dict[str, Any]]:
    """Return the providers in the form of allauth's setting ``SOCIALACCOUNT_PROVIDERS``."""
    return [
        {
            "provider_id": provider.id,
            "name": provider.name,
            "client_id": provider.client_id,
            "secret": provider.client_secret,
            "settings": {
                "server_url": provider.server_url.rstrip("/"),
                "scope": provider.scopes,
                "oauth_pkce_enabled": True,
            },
        }
        for provider in providers
    ]


def read_groups(provider: OidcProvider, claims: Mapping[str, Any]) -> set[str]:
    """Return the groups that a provider says a person is in; a single one may come as a text."""
    found = claims.get(provider.groups_claim)
    if isinstance(found, str):
        return {found}
    return {name for name in found if isinstance(name, str)} if isinstance(found, list) else set()


def choose_role(provider: OidcProvider, claims: Mapping[str, Any]) -> RoleName | None:
    """Return the strongest role of the person's groups, else the default one; None: they may not come in."""
    given = {provider.roles[group] for group in read_groups(provider, claims) if group in provider.roles}
    return max(given, key=STRENGTH.index) if given else provider.default_role


def choose_teams(provider: OidcProvider, claims: Mapping[str, Any]) -> dict[str, bool]:
    """Return of each team that the provider decides about whether the person is in it."""
    groups = read_groups(provider, claims)
    return {
        team: any(group in groups for group, other in provider.teams.items() if other == team)
        for team in provider.teams.values()
    }


def is_email_allowed(provider: OidcProvider, claims: Mapping[str, Any]) -> bool:
    """Whether the person's address is one of those that may come in, and verified by the provider."""
    if not provider.email_domains:
        return True
    domain = str(claims.get("email", "")).rpartition("@")[2].lower()
    return claims.get("email_verified") is True and domain in {name.lower() for name in provider.email_domains}
