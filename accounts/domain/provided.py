"""Rights that a provider gives to the people who sign in by it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from django.db import transaction

from accounts.domain.actors import Actor
from accounts.domain.audit import record_change
from accounts.domain.people import change_role, describe
from accounts.domain.teams import add_member, create_team, remove_member
from accounts.enums import Role
from accounts.errors import LastAdministrator
from accounts.models import Team, User
from accounts.oidc import OidcProvider, choose_role, choose_teams

logger = logging.getLogger(__name__)


def provider_actor(provider: OidcProvider) -> Actor:
    """Return who acts when a provider's word is carried out."""
    return Actor(user=None, key=None, label=f"provider:{provider.id}")


@transaction.atomic
def adopt_person(user: User, provider: OidcProvider, claims: Mapping[str, Any]) -> None:
    """Note a person who came for the first time, and put them into their teams."""
    record_change(actor=provider_actor(provider), action="user.create", target=user, after=describe(user))
    apply_teams(user, provider, claims)


@transaction.atomic
def apply_claims(user: User, provider: OidcProvider, claims: Mapping[str, Any]) -> None:
    """Give a person the role and teams that their groups mean now. The last administrator stays one."""
    role = choose_role(provider, claims)
    if provider.roles and role is not None:
        try:
            with transaction.atomic():
                change_role(actor=provider_actor(provider), user=user, role=Role(role))
        except LastAdministrator as error:
            logger.warning("%s by %s was not demoted: %s", user.get_username(), provider.id, error)
    apply_teams(user, provider, claims)


def apply_teams(user: User, provider: OidcProvider, claims: Mapping[str, Any]) -> None:
    """Put the person into the teams that their groups mean, and out of others that the provider decides about."""
    actor = provider_actor(provider)
    for name, belongs in choose_teams(provider, claims).items():
        team = Team.objects.filter(group__name__iexact=name).select_related("group").first()
        if team is None:
            if not belongs:
                continue
            team = create_team(actor=actor, name=name)
        if belongs:
            add_member(actor=actor, team=team, user=user)
        else:
            remove_member(actor=actor, team=team, user=user)
