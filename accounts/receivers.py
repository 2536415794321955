"""What happens when somebody signs in or out, or changes how they do. Imported when the app is ready."""

from __future__ import annotations

from typing import Any

from allauth.mfa import signals
from allauth.mfa.models import Authenticator
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.dispatch import receiver
from django.http import HttpRequest

from accounts.domain.actors import actor_for
from accounts.domain.audit import record_change
from accounts.domain.sessions import end_session_key, note_session
from accounts.models import User


@receiver(user_logged_in)
def keep_session(sender: type[User], request: HttpRequest, user: User, **kwargs: Any) -> None:
    """Keep from where somebody signed in."""
    if not request.session.session_key:
        request.session.save()
    note_session(
        user=user,
        session_key=str(request.session.session_key),
        address=request.META.get("REMOTE_ADDR") or "",
        user_agent=request.META.get("HTTP_USER_AGENT", ""),
    )


@receiver(user_logged_out)
def forget_session(sender: type[User], request: HttpRequest, user: User | None, **kwargs: Any) -> None:
    """Forget a session that was ended by its own person."""
    if request.session.session_key:
        end_session_key(request.session.session_key)


@receiver(signals.authenticator_added)
@receiver(signals.authenticator_reset)
def note_second_factor(sender: object, user: User, authenticator: Authenticator, **kwargs: Any) -> None:
    """Keep that somebody got an app, a passkey or recovery codes."""
    after = {"second_factor": str(authenticator)}
    record_change(actor=actor_for(user), action="user.add_second_factor", target=user, after=after)


@receiver(signals.authenticator_removed)
def note_lost_second_factor(sender: object, user: User, authenticator: Authenticator, **kwargs: Any) -> None:
    """Keep that somebody removed an app or a passkey."""
    before = {"second_factor": str(authenticator)}
    record_change(actor=actor_for(user), action="user.remove_second_factor", target=user, before=before)
