"""Signals of signing in and out, Django's and allauth's, for the audit. Imported when the app is ready."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from allauth.mfa.signals import authentication_failed
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.dispatch import receiver

from accounts.domain.audit_sign_in import record_failed_code, record_failed_sign_in, record_sign_in, record_sign_out
from accounts.models import User


@receiver(user_logged_in)
def note_sign_in(sender: type[User], user: User, **kwargs: Any) -> None:
    """Keep who signed in."""
    record_sign_in(user)


@receiver(user_logged_out)
def note_sign_out(sender: type[User], user: User | None, **kwargs: Any) -> None:
    """Keep who signed out; a session may have expired before."""
    if user is not None:
        record_sign_out(user)


@receiver(user_login_failed)
def note_failed_sign_in(sender: object, credentials: Mapping[str, Any], **kwargs: Any) -> None:
    """Keep whose name was tried."""
    record_failed_sign_in(str(credentials.get("username") or ""))


@receiver(authentication_failed)
def note_failed_code(sender: object, user: User, *, reauthentication: bool = False, **kwargs: Any) -> None:
    """Keep at whose second step a code was wrong."""
    record_failed_code(user, is_signed_in=reauthentication)
