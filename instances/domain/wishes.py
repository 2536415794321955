"""Changing what is wanted of an instance on Corral's own account: demand, idleness, eviction, refusal."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from django.db import transaction
from django.utils import timezone

from instances.domain.transitions import record_event, transition
from instances.enums import DesiredState, State
from instances.models import Instance


def want_running(instance_id: int, *, actor: str, reason: str) -> bool:
    """Wish that a stopped instance runs, because a request waits for it; False when that isn't possible or needed."""
    with transaction.atomic():
        instance = Instance.objects.filter(
            pk=instance_id, disabled=False, state__in=(State.STOPPED, State.FAILED)
        ).first()
        if instance is None:
            return False
        if instance.state == State.FAILED:
            transition(instance_id, to=State.STOPPED, actor=actor, reason=reason, allowed=[State.FAILED])
        Instance.objects.filter(pk=instance_id).update(
            desired_state=DesiredState.RUNNING,
            wanted_at=timezone.now(),
            evicts=True,  # of those whose requests wait some may not, which the supervisor knows
            restart_count=0,
            refused_at=None,
            updated_at=timezone.now(),
        )
        record_event(instance, kind="start", actor=actor, reason=reason)
        return True


def want_stopped(instance_id: int, *, actor: str, reason: str, kind: str = "stop") -> bool:
    """Wish that a running instance stops; False when nobody wanted it to run."""
    with transaction.atomic():
        instance = Instance.objects.filter(pk=instance_id, desired_state=DesiredState.RUNNING).first()
        if instance is None:
            return False
        Instance.objects.filter(pk=instance_id).update(desired_state=DesiredState.STOPPED, updated_at=timezone.now())
        record_event(instance, kind=kind, actor=actor, reason=reason)
        return True


def refuse_start(instance_id: int, *, actor: str, reason: str) -> bool:
    """Take back the wish of a start that a limit refuses, and say why; False when it is not waiting any more."""
    with transaction.atomic():
        instance = Instance.objects.filter(
            pk=instance_id, desired_state=DesiredState.RUNNING, state__in=(State.STOPPED, State.BACKOFF)
        ).first()
        if instance is None:
            return False
        if instance.state == State.BACKOFF:
            transition(instance_id, to=State.STOPPED, actor=actor, reason=reason, allowed=[State.BACKOFF])
        Instance.objects.filter(pk=instance_id).update(
            desired_state=DesiredState.STOPPED,
            refused_at=timezone.now(),
            reason=reason,
            restart_at=None,
            updated_at=timezone.now(),
        )
        record_event(instance, kind="refused", actor=actor, reason=reason)
        return True


def note_reason(instance_id: int, *, reason: str) -> None:
    """Show why an instance that is wanted doesn't run yet."""
    Instance.objects.filter(pk=instance_id).exclude(reason=reason).update(reason=reason, updated_at=timezone.now())


def record_use(last_used: Mapping[int, float]) -> None:
    """Keep when instances were last used (seconds since the epoch), never moving backwards."""
    for instance_id, seconds in last_used.items():
        at = datetime.fromtimestamp(seconds, UTC)
        Instance.objects.filter(pk=instance_id).exclude(last_used_at__gte=at).update(last_used_at=at)
