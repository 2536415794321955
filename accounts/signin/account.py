"""What allauth asks about accounts in general."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.internal.flows.reauthentication import raise_if_reauthentication_required
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from accounts.models import User


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # allauth has no types
    """Names and passwords by Corral's rules; accounts are made by invitation, registration or a provider."""

    error_messages = DefaultAccountAdapter.error_messages | {
        "username_password_mismatch": "The user name or the password is wrong.",
        "too_many_login_attempts": "Too many failed attempts. Wait a few minutes, then try again.",
        "incorrect_password": "The password is wrong.",
    }

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Never by allauth's own pages."""
        return False

    def get_client_ip(self, request: HttpRequest) -> str:
        """Return the client's address as all of Corral sees it; over a Unix socket there is none."""
        return request.META.get("REMOTE_ADDR") or "127.0.0.1"

    def respond_user_inactive(self, request: HttpRequest, user: User) -> HttpResponse:
        """Say to somebody who proved who they are that they may not come in (yet)."""
        return render(request, "accounts/inactive.html", {"person": user}, status=403)

    def is_reauthentication_required(self, *, app: str, **kwargs: Any) -> bool:
        """Ask again before a second factor is changed, unless the provider alone knows the person's secrets."""
        return bool(self.get_reauthentication_methods(self.request.user))


def require_confirmation(request: HttpRequest) -> None:
    """Raise ReauthenticationRequired unless who is signed in has confirmed it within the last minutes.

    allauth's middleware then asks for the password or a second step, and carries out the request afterwards. Where
    signing in is off there is nobody to ask, and whoever has only a provider's password can't be asked for one.
    """
    if request.user.is_authenticated:
        raise_if_reauthentication_required(request, app="accounts")


def check_own_password(request: HttpRequest, user: User, password: str) -> None:
    """Raise ValidationError naming ``old_password`` unless it is the person's; failures are counted as at sign-in."""
    try:
        is_right = AccountAdapter(request).reauthenticate(user, password)
    except ValidationError as error:
        raise ValidationError({"old_password": error.messages}) from None
    if not is_right:
        raise ValidationError({"old_password": AccountAdapter.error_messages["incorrect_password"]})
