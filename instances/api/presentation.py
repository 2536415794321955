"""Instances and their events as JSON: llamactl's fields first and in its order, then Corral's own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db.models import Prefetch, QuerySet
from rest_framework.request import Request

from accounts.api.errors import InvalidParameter
from accounts.domain.actors import Actor
from instances.domain.access import levels_of
from instances.domain.descriptions import describe_options
from instances.enums import DesiredState, ShareLevel, State
from instances.models import Instance, InstanceEvent, Run

ACTIVE_RUNS = Prefetch("runs", queryset=Run.objects.filter(exited_at__isnull=True), to_attr="active_runs")


def wants_integer_status(request: Request) -> bool:
    """Whether the client asks for llamactl's oldest form, with ``status`` as an integer."""
    text = request.query_params.get("status_format") or request.headers.get("X-Llamactl-Status-Format") or "string"
    if text.lower() not in ("integer", "string"):
        raise InvalidParameter("Invalid status_format parameter: it must be string or integer.")
    return text.lower() == "integer"


def present_instances(
    instances: QuerySet[Instance] | Sequence[Instance], *, actor: Actor, request: Request
) -> list[dict[str, Any]]:
    """Return instances as JSON objects; the number of queries does not depend on how many they are."""
    integer_status = wants_integer_status(request)
    rows = list(instances)
    levels = levels_of(actor, rows)
    return [
        present_instance(row, integer_status=integer_status, with_secrets=levels[row.pk] == ShareLevel.MANAGE)
        for row in rows
    ]


def present_one(
    instance: Instance, *, actor: Actor, request: Request, warnings: list[str] | None = None
) -> dict[str, Any]:
    """Return one instance as a JSON object; answers of writes carry ``warnings``, even when there are none."""
    shown = present_instances([instance], actor=actor, request=request)[0]
    return shown if warnings is None else {**shown, "warnings": warnings}


def present_instance(instance: Instance, *, integer_status: bool, with_secrets: bool) -> dict[str, Any]:
    """Return one instance; times are Unix seconds. ``pid`` is the engine's, null while there is none."""
    code = instance.status_code
    runs = getattr(instance, "active_runs", None)
    run = next(iter(instance.runs.filter(exited_at__isnull=True)[:1] if runs is None else runs), None)
    return {
        "id": instance.pk,
        "name": instance.name,
        # The oldest contract knows 0, 1 and 2; the exact value stays in status_code.
        "status": (code if code <= 2 else 1) if integer_status else instance.status,
        "created": seconds(instance.created_at),
        "options": describe_options(instance, with_secrets=with_secrets),
        "state": instance.state,
        "status_code": code,
        "reason": instance.reason,
        "restart_count": instance.restart_count,
        "port": instance.port,
        "pid": run.child_pid if run else None,
        "ready": instance.state == State.READY,
        "owner": instance.owner.get_username() if instance.owner else None,
        "node": instance.node.name,
        "group": instance.group,
        "queued": instance.state == State.STOPPED and instance.desired_state == DesiredState.RUNNING,
        "last_used_at": seconds(instance.last_used_at),
    }


def present_event(event: InstanceEvent) -> dict[str, Any]:
    """Return an event; ``created`` in Unix seconds."""
    return {
        "id": event.pk,
        "kind": event.kind,
        "from_state": event.from_state,
        "to_state": event.to_state,
        "actor": event.actor,
        "reason": event.reason,
        "run": event.run_id,
        "created": seconds(event.created_at),
    }


def seconds(moment: datetime | None) -> int | None:
    """Return a time in whole Unix seconds."""
    return None if moment is None else int(moment.timestamp())
