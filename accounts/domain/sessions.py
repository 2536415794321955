"""Where people are signed in, and signing them out there."""

from __future__ import annotations

import math
import time

from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from accounts.domain.actors import Actor
from accounts.domain.audit import record_change, shorten
from accounts.events import announce_keys_changed
from accounts.models import User, UserSession

SEEN_STEP_S = 300
_NOTED: dict[str, float] = {}
"""When this process last wrote down a session's use, so that reading pages does not write each time."""


def note_session(*, user: User, session_key: str, address: str, user_agent: str) -> None:
    """Keep that a person signed in with this browser."""
    UserSession.objects.update_or_create(
        session_key=session_key,
        defaults={"user": user, "client_address": shorten(address, 64), "user_agent": shorten(user_agent, 300)},
    )
    _NOTED[session_key] = time.monotonic()


def note_seen(*, session_key: str) -> None:
    """Keep that a session was used now, exact to some minutes."""
    now = time.monotonic()
    if now - _NOTED.get(session_key, -math.inf) < SEEN_STEP_S:
        return
    if len(_NOTED) >= 10_000:
        _NOTED.clear()
    _NOTED[session_key] = now
    UserSession.objects.filter(session_key=session_key).update(last_seen_at=timezone.now())


def list_sessions(user: User) -> QuerySet[UserSession]:
    """Return the sessions that are still good, the one used last first."""
    return user.sessions.filter(session_key__in=alive_keys())


def end_sessions(*, actor: Actor, user: User, except_key: str = "") -> int:
    """Sign a person out everywhere but in the session with this key; return in how many places."""
    return end_chosen(actor, user, user.sessions.exclude(session_key=except_key))


def end_session(*, actor: Actor, user: User, session_id: int) -> bool:
    """Sign a person out in one place; return False when they have no such session."""
    return end_chosen(actor, user, user.sessions.filter(pk=session_id)) > 0


@transaction.atomic
def end_chosen(actor: Actor, user: User, sessions: QuerySet[UserSession]) -> int:
    """End these sessions of a person's, and have their open sockets looked at again."""
    keys = list(sessions.values_list("session_key", flat=True))
    if keys:
        Session.objects.filter(session_key__in=keys).delete()
        UserSession.objects.filter(session_key__in=keys).delete()
        record_change(actor=actor, action="session.end", target=user, before={"sessions": len(keys)})
        announce_keys_changed()
    return len(keys)


def forget_ended_sessions() -> None:
    """Delete what describes sessions that are over."""
    UserSession.objects.exclude(session_key__in=alive_keys()).delete()


def alive_keys() -> QuerySet[Session, str]:
    """Return the keys of sessions that have not expired."""
    return Session.objects.filter(expire_date__gt=timezone.now()).values_list("session_key", flat=True)


def end_session_key(session_key: str) -> None:
    """Forget a session that its own browser ends, and have its open sockets looked at again."""
    UserSession.objects.filter(session_key=session_key).delete()
    announce_keys_changed()
