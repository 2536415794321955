"""Signing in and out, for the audit."""

from __future__ import annotations

import logging
from datetime import timedelta

from django.utils import timezone

from accounts.domain.actors import ANONYMOUS, Actor, actor_for
from accounts.domain.audit import record_change
from accounts.models import AuditEntry, User

logger = logging.getLogger(__name__)

FAILED = "session.sign_in_failed"
FAILED_CODE = "session.code_failed"
FAILED_PASSKEY = "session.passkey_failed"
FAILURES_A_MINUTE = 100


def record_sign_in(user: User) -> None:
    """Write that a person has signed in."""
    record_change(actor=actor_for(user), action="session.sign_in", target=user)


def record_sign_out(user: User) -> None:
    """Write that a person has signed out."""
    record_change(actor=actor_for(user), action="session.sign_out", target=user)


def record_failed_sign_in(name: str) -> bool:
    """Write that somebody failed to sign in; False when there were too many in the last minute, which is only logged.

    The name is read in any case, as signing in does. One that nobody has is not kept: people type their password there
    by mistake.
    """
    user = User.objects.filter(username__iexact=name.replace("\0", "")).first() if name else None
    return record_failure(actor=ANONYMOUS, action=FAILED, user=user)


def record_failed_code(user: User, *, is_signed_in: bool) -> bool:
    """Write that a wrong code of an app or a wrong recovery code was sent, as ``record_failed_sign_in`` does.

    Before the person is signed in, it was somebody who knows their password; afterwards they were to confirm who they
    are. The code is not kept.
    """
    return record_failure(actor=actor_for(user) if is_signed_in else ANONYMOUS, action=FAILED_CODE, user=user)


def record_failed_passkey(user: User | None, *, is_signed_in: bool) -> bool:
    """Write that a passkey was refused, as ``record_failed_code`` does; None where it was sent without a name."""
    return record_failure(
        actor=actor_for(user) if user is not None and is_signed_in else ANONYMOUS, action=FAILED_PASSKEY, user=user
    )


def record_failure(*, actor: Actor, action: str, user: User | None) -> bool:
    """Write a failure unless there were too many in the last minute; return whether it was written."""
    failures = AuditEntry.objects.filter(action__in=(FAILED, FAILED_CODE, FAILED_PASSKEY))
    if failures.filter(created_at__gte=timezone.now() - timedelta(minutes=1)).count() >= FAILURES_A_MINUTE:
        logger.warning("more than %d sign-ins failed within a minute; this one is not in the audit", FAILURES_A_MINUTE)
        return False
    record_change(actor=actor, action=action, target=user)
    return True
