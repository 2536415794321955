"""Waiting, in a request's thread, for the supervisor to carry out a wish. Always bounded."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.db.models import Max

from instances.domain.transitions import record_event
from instances.enums import DesiredState, State
from instances.errors import InstanceNotFound, NodeUnavailable, StartFailed, StartRefused, StopFailed
from instances.models import Instance, Node, Run

REACTION_S = 10.0
"""How long a start may wait for the supervisor to act at all."""
SETTLE_S = 0.5
"""How long a new process is watched before its start counts as done: a program that can't run at all ends sooner."""
QUEUED_AFTER_S = 0.5
"""A reason that stands this long beside a stopped instance is a queue's, not a passing one."""
STEPS_S = (0.02, 0.2)


def stop_time_s() -> float:
    """Return how long a stop may take: drain, grace, and the supervisor's own work."""
    return float(settings.CORRAL.drain_timeout + settings.CORRAL.stop_timeout + 5)


def require_node(node: Node) -> None:
    """Raise NodeUnavailable unless the node's worker was heard of lately."""
    if not node.is_alive:
        raise NodeUnavailable(f"The node {node.name} does not answer. Start its worker with `corral worker`.")


def read_instance(pk: int) -> Instance:
    """Return the instance as it is now; raise InstanceNotFound when it was deleted."""
    instance = Instance.objects.select_related("node", "owner").filter(pk=pk).first()
    if instance is None:
        raise InstanceNotFound("The instance was deleted meanwhile.")
    return instance


def watch(pk: int, seconds: float) -> Iterator[Instance]:
    """Yield the instance again and again, at first every 20 ms, later every 200 ms, until the time is over."""
    deadline = time.monotonic() + seconds
    pause, longest = STEPS_S
    while True:
        yield read_instance(pk)
        if time.monotonic() >= deadline:
            return
        time.sleep(pause)  # the supervisor is another process; its row is the only thing that can't be missed
        pause = min(longest, pause * 1.5)


def last_run(instance: Instance) -> int:
    """Return the id of the instance's newest run, 0 when it never ran."""
    return Run.objects.filter(instance=instance).aggregate(newest=Max("pk"))["newest"] or 0


def wait_for_start(
    instance: Instance, *, seconds: float, generation: int, after_run: int, failure_code: str
) -> Instance:
    """Wait until a process of ``generation`` was started, or the start is queued; return the row.

    ``after_run`` is the newest run before the wish: how that one ended is not this start's failure.
    Raises StartRefused (a limit), StartFailed with ``failure_code``, or NodeUnavailable when the node falls silent.
    """
    reason, reason_since, started_since = "", 0.0, 0.0
    latest = instance
    for latest in watch(instance.pk, seconds):
        if has_started(latest, generation):
            started_since = started_since or time.monotonic()
            if latest.state == State.READY or time.monotonic() - started_since > SETTLE_S:
                return latest
        if latest.desired_state == DesiredState.STOPPED and latest.refused_at is not None:
            raise StartRefused(latest.reason)
        if latest.state == State.FAILED or (latest.state == State.BACKOFF and has_ended(latest, after_run)):
            # Read again: the process may have begun and ended between reading the row and looking at its runs.
            error = StartFailed(read_instance(latest.pk).reason or "The engine ended at once and said nothing.")
            error.code = failure_code
            raise error
        if latest.state == State.STOPPED:
            if latest.desired_state == DesiredState.STOPPED:
                return latest
            if latest.reason != reason:
                reason, reason_since = latest.reason, time.monotonic()
            if reason and time.monotonic() - reason_since > QUEUED_AFTER_S:
                return latest
        if not latest.node.is_alive:
            break
    if latest.state == State.STOPPED or not latest.node.is_alive:
        raise NodeUnavailable(f"The node {latest.node.name} did not react. Look at the log of its worker.")
    return latest


def has_started(instance: Instance, generation: int) -> bool:
    """Whether a process of this generation, or a later one, runs."""
    if instance.state not in (State.STARTING, State.READY):
        return False
    return Run.objects.filter(
        instance=instance, generation__gte=generation, exited_at__isnull=True, started_at__isnull=False
    ).exists()


def has_ended(instance: Instance, after_run: int) -> bool:
    """Whether a process begun after that run is over."""
    return Run.objects.filter(instance=instance, pk__gt=after_run, exited_at__isnull=False).exists()


def wait_for_stop(instance: Instance) -> Instance:
    """Wait until the instance holds no process, or is wanted again; return the row. Raises StopFailed."""
    for latest in watch(instance.pk, stop_time_s()):
        if latest.state in (State.STOPPED, State.FAILED) or latest.desired_state == DesiredState.RUNNING:
            return latest
        if not latest.node.is_alive:
            raise NodeUnavailable(f"The node {latest.node.name} fell silent while {latest.name} was stopping.")
    raise StopFailed(f"{instance.name} did not stop within {stop_time_s():.0f} s. Look at its log.")


def take_back_start(pk: int, *, since: datetime, actor: str) -> None:
    """Undo a wish that nobody carried out, unless it has been renewed or acted on meanwhile."""
    with transaction.atomic():
        undone = Instance.objects.filter(
            pk=pk, wanted_at__gte=since, desired_state=DesiredState.RUNNING, state__in=(State.STOPPED, State.FAILED)
        ).update(desired_state=DesiredState.STOPPED)
        if undone:
            record_event(read_instance(pk), kind="stop", actor=actor, reason="The node did not react to the start.")


def take_back_stop(pk: int, *, actor: str) -> None:
    """Undo the wish of a stop that has not begun."""
    with transaction.atomic():
        undone = Instance.objects.filter(
            pk=pk, desired_state=DesiredState.STOPPED, state__in=(State.STARTING, State.READY, State.BACKOFF)
        ).update(desired_state=DesiredState.RUNNING)
        if undone:
            record_event(read_instance(pk), kind="start", actor=actor, reason="The node did not react to the stop.")
