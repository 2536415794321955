"""The one place where an instance's observed state changes, and where what happened is written down."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

from django.db import transaction
from django.utils import timezone

from instances.enums import EDGES, State
from instances.events import publish_instance_event
from instances.models import Instance, InstanceEvent, Run

logger = logging.getLogger(__name__)


def record_event(
    instance: Instance,
    *,
    kind: str,
    actor: str,
    reason: str = "",
    run: Run | None = None,
    from_state: str = "",
    to_state: str = "",
) -> InstanceEvent:
    """Write an InstanceEvent and tell pages and gateways on commit that the instance changed."""
    event = InstanceEvent.objects.create(
        instance=instance,
        instance_name=instance.name,
        run=run,
        kind=kind,
        from_state=from_state,
        to_state=to_state,
        actor=actor[:100],
        reason=reason,
    )
    publish_instance_event(
        {
            "type": "instance.changed",
            "instance_id": instance.pk,
            "name": instance.name,
            "state": to_state or instance.state,
            "version": event.pk,
        }
    )
    return event


def transition(
    instance_id: int,
    *,
    to: State,
    actor: str,
    reason: str = "",
    run: Run | None = None,
    allowed: Collection[State] | None = None,
    **fields: Any,
) -> bool:
    """Move an instance to state ``to`` along EDGES, with ``fields`` set in the same write.

    A compare-and-set: returns False, and changes nothing, when the instance is gone or in a state from which ``to``
    may not be reached (or not in ``allowed``). The reason is kept on the row and in the event.
    """
    sources = {state for state, targets in EDGES.items() if to in targets}
    if allowed is not None:
        sources &= set(allowed)
    with transaction.atomic():
        instance = Instance.objects.filter(pk=instance_id, state__in=sources).first()
        if instance is None:
            return False
        before = instance.state
        changed = Instance.objects.filter(pk=instance_id, state=before).update(
            state=to, state_changed_at=timezone.now(), reason=reason, updated_at=timezone.now(), **fields
        )
        if changed != 1:
            return False
        record_event(instance, kind="transition", actor=actor, reason=reason, run=run, from_state=before, to_state=to)
    logger.info(
        "instance %s (%s) run %s: %s -> %s%s",
        instance_id,
        instance.name,
        run.pk if run else "-",
        before,
        to,
        f" ({reason.splitlines()[0][:200]})" if reason else "",
    )
    return True
