"""Writing down the life of a process: begun, started, ready, ended."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from instances.domain.transitions import record_event, transition
from instances.enums import DesiredState, State
from instances.models import Instance, Run

STARTABLE = (State.STOPPED, State.BACKOFF)


def derive_upstream_key(token: str) -> str:
    """Return the API key that the engine of the run with this token demands.

    Derived from SECRET_KEY, so that it is stored nowhere; 64 hex digits.
    """
    return hmac.new(settings.SECRET_KEY.encode(), b"corral.run:" + token.encode(), hashlib.sha256).hexdigest()


def begin_run(*, instance_id: int, port: int, actor: str) -> Run | None:
    """Make a run and move its instance to ``starting`` in one transaction.

    None when the instance may not start any more: gone, disabled, no longer wanted, or not in a state to start from.
    Raises IntegrityError when another active run holds the port on the node.
    """
    with transaction.atomic():
        instance = Instance.objects.filter(
            pk=instance_id, desired_state=DesiredState.RUNNING, disabled=False, state__in=STARTABLE
        ).first()
        if instance is None:
            return None
        run = Run.objects.create(
            instance=instance,
            node_id=instance.node_id,
            port=port,
            generation=instance.generation,
            token=secrets.token_hex(16),
        )
        if not transition(
            instance_id,
            to=State.STARTING,
            actor=actor,
            run=run,
            allowed=STARTABLE,
            restart_at=None,
            refused_at=None,
            port=port,
        ):
            transaction.set_rollback(True)
            return None
        return run


def replace_run(*, run: Run, port: int, actor: str, reason: str) -> Run | None:
    """End a run that lost its port to another program and begin another on ``port``; the instance stays ``starting``.

    None when the instance left ``starting`` meanwhile. Raises IntegrityError when the new port is held as well.
    """
    with transaction.atomic():
        instance = Instance.objects.filter(pk=run.instance_id, state=State.STARTING).first()
        if instance is None:
            return None
        Run.objects.filter(pk=run.pk).update(exited_at=timezone.now(), reason=reason)
        Instance.objects.filter(pk=instance.pk).update(port=port)
        new = Run.objects.create(
            instance=instance, node_id=run.node_id, port=port, generation=run.generation, token=secrets.token_hex(16)
        )
        record_event(instance, kind="port", actor=actor, reason=reason, run=new)
        return new


@dataclass(frozen=True)
class Process:
    """The shim of a run, as ``supervisor/identity.py`` sees it."""

    pid: int
    started: float
    boot_id: str


def record_child(*, run_id: int, child_pid: int) -> None:
    """Keep the engine's own pid, for people; the run is recognised by its shim."""
    Run.objects.filter(pk=run_id).update(child_pid=child_pid)


def record_process(*, run_id: int, process: Process) -> None:
    """Keep who the run's shim is, so that a later supervisor can adopt it."""
    Run.objects.filter(pk=run_id).update(
        shim_pid=process.pid,
        shim_create_time=process.started,
        boot_id=process.boot_id,
        started_at=timezone.now(),
    )


def mark_ready(*, run: Run, actor: str) -> bool:
    """Move a run's instance from ``starting`` to ``ready``; False when it left ``starting`` meanwhile."""
    now = timezone.now()
    with transaction.atomic():
        Run.objects.filter(pk=run.pk, exited_at__isnull=True).update(ready_at=now)
        return transition(run.instance_id, to=State.READY, actor=actor, run=run, allowed=[State.STARTING])


def end_run(
    *,
    run: Run,
    to: State,
    actor: str,
    reason: str = "",
    exit_code: int | None = None,
    restart_count: int | None = None,
    restart_at: datetime | None = None,
    desired_state: DesiredState | None = None,
) -> bool:
    """End a run and move its instance to ``to`` in one transaction; False when the run had ended already."""
    fields: dict[str, Any] = {"restart_at": restart_at}
    if restart_count is not None:
        fields["restart_count"] = restart_count
    if desired_state is not None:
        fields["desired_state"] = desired_state
    with transaction.atomic():
        ended = Run.objects.filter(pk=run.pk, exited_at__isnull=True).update(
            exited_at=timezone.now(), exit_code=exit_code, reason=reason
        )
        if ended != 1:
            return False
        transition(run.instance_id, to=to, actor=actor, reason=reason, run=run, **fields)
        return True
