"""Where people are signed in, and signing them out there."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.sessions.models import Session
from django.db.models import QuerySet
from django.utils import timezone

from accounts.domain.audit import shorten
from accounts.events import announce_keys_changed
from accounts.models import User, UserSession

SEEN_STEP = timedelta(minutes=5)


def note_session(*, user: User, session_key: str, address: str, user_agent: str) -> None:
    """Keep that a person signed in with this browser."""
    UserSession.objects.update_or_create(
        session_key=session_key,
        defaults={"user": user, "client_address": shorten(address, 64), "user_agent": shorten(user_agent, 300)},
    )


def note_seen(*, session_key: str) -> None:
    """Keep that a session was used now."""
    UserSession.objects.filter(session_key=session_key).update(last_seen_at=timezone.now())


def list_sessions(user: User) -> QuerySet[UserSession]:
    """Return the sessions that are still good, the one used last first."""
    return user.sessions.filter(session_key__in=alive_keys())


def end_sessions(user: User, *, except_key: str = "") -> int:
    """Sign a person out everywhere but in the session with this key; return in how many places."""
    keys = list(user.sessions.exclude(session_key=except_key).values_list("session_key", flat=True))
    return end_keys(keys)


def end_session(user: User, session_id: int) -> bool:
    """Sign a person out in one place; return False when they have no such session."""
    keys = list(user.sessions.filter(pk=session_id).values_list("session_key", flat=True))
    return end_keys(keys) > 0


def end_keys(keys: list[str]) -> int:
    """End these sessions of Django's, and have their open sockets looked at again."""
    Session.objects.filter(session_key__in=keys).delete()
    ended = UserSession.objects.filter(session_key__in=keys).delete()[0]
    announce_keys_changed()
    return ended


def forget_ended_sessions() -> None:
    """Delete what describes sessions that are over."""
    UserSession.objects.exclude(session_key__in=alive_keys()).delete()


def alive_keys() -> QuerySet[Session, str]:
    """Return the keys of sessions that have not expired."""
    return Session.objects.filter(expire_date__gt=timezone.now()).values_list("session_key", flat=True)
