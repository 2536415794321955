"""allauth's pages that Corral has: second factors, passkeys, confirming who one is, and providers.

Only these are routed; what else allauth offers (signing up, e-mail, resetting by mail) has no address here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

from allauth.account import views as account
from allauth.mfa.base import views as base
from allauth.mfa.recovery_codes import views as recovery
from allauth.mfa.totp import views as totp
from allauth.mfa.webauthn import views as webauthn
from allauth.socialaccount.models import SocialApp
from allauth.socialaccount.providers.openid_connect import views as openid
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.urls import URLPattern, path
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe
from redis.exceptions import RedisError

from accounts.pages import public, refuse_for_now, require_person

logger = logging.getLogger(__name__)
View = Callable[..., HttpResponseBase]


def guarded(view: View) -> View:
    """Answer 503 while nobody counts attempts, and show nothing from a cache."""

    @wraps(view)
    def answering(request: HttpRequest, /, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return view(request, *args, **kwargs)
        except RedisError:
            return refuse_for_now(request)

    return never_cache(require_http_methods(["GET", "HEAD", "POST"])(answering))


def from_provider(view: View) -> View:
    """Only sign in by a provider (never connect it to whoever is signed in), and bear what it answers."""

    @wraps(view)
    def answering(request: HttpRequest, provider_id: str) -> HttpResponseBase:
        if request.GET.get("process", "login") != "login":
            raise Http404("A provider can be used for signing in only.")
        try:
            return view(request, provider_id)
        except (KeyError, TypeError, ValueError, OSError, RecursionError, SocialApp.DoesNotExist) as error:
            if isinstance(error, SocialApp.DoesNotExist):
                raise Http404("There is no such provider.") from None
            logger.warning("signing in by %s failed", provider_id, exc_info=error)
            return show_provider_error(request)

    return require_safe(answering)


def show_provider_error(request: HttpRequest) -> HttpResponse:
    """Say that signing in by a provider failed; the log says why."""
    return render(request, "socialaccount/authentication_error.html", status=502)


@public
@never_cache
@require_safe
def show_cancelled(request: HttpRequest) -> HttpResponse:
    """Say that somebody left the provider's page without signing in."""
    reason = "You left the provider's page without signing in."
    return render(request, "accounts/setup_refused.html", {"title": "You are not signed in", "reason": reason})


def open_to_all(route: str, view: View, name: str) -> URLPattern:
    """Return the route of a page for people who are not signed in yet."""
    return path(route, public(guarded(view)), name=name)


def for_person(route: str, view: View, name: str) -> URLPattern:
    """Return the route of a page for who is signed in."""
    return path(route, require_person(guarded(view)), name=name)


urlpatterns = [
    open_to_all("login/code/", base.authenticate, "mfa_authenticate"),
    open_to_all("login/passkey/", webauthn.login_webauthn, "mfa_login_webauthn"),
    open_to_all("login/cancelled/", show_cancelled, "socialaccount_login_cancelled"),
    open_to_all("oidc/<slug:provider_id>/login/", from_provider(openid.login), "openid_connect_login"),
    open_to_all("oidc/<slug:provider_id>/login/callback/", from_provider(openid.callback), "openid_connect_callback"),
    for_person("login/confirm/", account.reauthenticate, "account_reauthenticate"),
    for_person("login/confirm/code/", base.reauthenticate, "mfa_reauthenticate"),
    for_person("login/confirm/passkey/", webauthn.reauthenticate_webauthn, "mfa_reauthenticate_webauthn"),
    for_person("profile/app/", totp.activate_totp, "mfa_activate_totp"),
    for_person("profile/app/remove/", totp.deactivate_totp, "mfa_deactivate_totp"),
    for_person("profile/recovery-codes/", recovery.view_recovery_codes, "mfa_view_recovery_codes"),
    for_person("profile/recovery-codes/new/", recovery.generate_recovery_codes, "mfa_generate_recovery_codes"),
    for_person("profile/passkeys/add/", webauthn.add_webauthn, "mfa_add_webauthn"),
    for_person("profile/passkeys/<int:pk>/rename/", webauthn.edit_webauthn, "mfa_edit_webauthn"),
    for_person("profile/passkeys/<int:pk>/remove/", webauthn.remove_webauthn, "mfa_remove_webauthn"),
]
