"""What allauth asks about people who come by a provider: who may come in, as what, and into which teams."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialLogin
from django.conf import settings
from django.http import HttpRequest
from django.shortcuts import render

from accounts.domain.provided import adopt_person, apply_claims
from accounts.models import User
from accounts.oidc import OidcProvider, choose_role, is_email_allowed

logger = logging.getLogger(__name__)


class ProviderAdapter(DefaultSocialAccountAdapter):  # type: ignore[misc]  # allauth has no types
    """Applies the roles and teams of ``oidc_providers`` at every sign-in, before the person is let in."""

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        """Whether people may come who were never here: yes, ``pre_social_login`` has refused the others."""
        return True

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        """Refuse who may not come in, and bring the rights of who was here before up to date."""
        provider, claims = find_provider(sociallogin), read_claims(sociallogin)
        if provider is None or choose_role(provider, claims) is None or not is_email_allowed(provider, claims):
            raise ImmediateHttpResponse(render(request, "accounts/provider_refused.html", status=403))
        sociallogin.email_addresses = []  # an address proves nothing here: people are known by the provider's own id
        if sociallogin.is_existing and sociallogin.user.is_active:
            apply_claims(sociallogin.user, provider, claims)

    def save_user(self, request: HttpRequest, sociallogin: SocialLogin, form: Any = None) -> User:
        """Make the person who comes for the first time, with the role and teams of their groups."""
        provider, claims = find_provider(sociallogin), read_claims(sociallogin)
        assert provider is not None  # noqa: S101  pre_social_login has seen it
        user = sociallogin.user
        user.role = choose_role(provider, claims)
        super().save_user(request, sociallogin, form)
        adopt_person(user, provider, claims)
        return user  # type: ignore[no-any-return]

    def on_authentication_error(self, request: HttpRequest, provider: Any, **kwargs: Any) -> None:
        """Log why a sign-in failed; the page says only that it did."""
        logger.warning(
            "signing in by %s failed: %s %s", provider.sub_id, kwargs.get("error"), kwargs.get("exception") or ""
        )


def find_provider(sociallogin: SocialLogin) -> OidcProvider | None:
    """Return the settings of the provider by which somebody comes; None when it was taken out of them."""
    found = {provider.id: provider for provider in settings.CORRAL.oidc_providers}
    return found.get(sociallogin.account.provider)


def read_claims(sociallogin: SocialLogin) -> Mapping[str, Any]:
    """Return what the provider says about the person; its userinfo wins over the id token."""
    data = sociallogin.account.extra_data
    return {**(data.get("id_token") or {}), **(data.get("userinfo") or {})}
