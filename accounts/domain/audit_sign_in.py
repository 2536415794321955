"""Signing in and out, for the audit."""

from __future__ import annotations

import logging
from datetime import timedelta

from django.utils import timezone

from accounts.domain.actors import ANONYMOUS, actor_for
from accounts.domain.audit import record_change
from accounts.models import AuditEntry, User

logger = logging.getLogger(__name__)

FAILED = "session.sign_in_failed"
FAILURES_A_MINUTE = 100


def record_sign_in(user: User) -> None:
    """Write that a person has signed in."""
    record_change(actor=actor_for(user), action="session.sign_in", target=user)


def record_sign_out(user: User) -> None:
    """Write that a person has signed out."""
    record_change(actor=actor_for(user), action="session.sign_out", target=user)


def record_failed_sign_in(name: str) -> bool:
    """Write that somebody failed to sign in; False when there were too many in the last minute, which is only logged.

    A name that nobody has is not kept: people type their password there by mistake.
    """
    lately = timezone.now() - timedelta(minutes=1)
    if AuditEntry.objects.filter(action=FAILED, created_at__gte=lately).count() >= FAILURES_A_MINUTE:
        logger.warning("more than %d sign-ins failed within a minute; this one is not in the audit", FAILURES_A_MINUTE)
        return False
    user = User.objects.filter(username=name.replace("\0", "")).first() if name else None
    record_change(actor=ANONYMOUS, action=FAILED, target=user)
    return True
