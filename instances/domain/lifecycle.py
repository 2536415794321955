"""Everything a person can do with an instance. Pages, REST, admin actions and commands all call these functions.

They check rights, write the wish in one transaction, and then wait for the supervisor, always for a bounded time.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts.domain.actors import Actor
from accounts.domain.audit import read_fields, record_change
from instances.domain import waiting
from instances.domain.access import check_options_allowed, require_creator, require_level, require_starter
from instances.domain.definitions import DEFINITION, change_instance, insert_instance
from instances.domain.names import check_name
from instances.domain.node_tasks import remove_files_on_commit
from instances.domain.options import read_options
from instances.domain.transitions import record_event, transition
from instances.domain.wake import wake_node
from instances.enums import ACTIVE, DesiredState, ShareLevel, State
from instances.errors import (
    InstanceDisabled,
    InstanceNotFound,
    NodeUnavailable,
    PermissionDenied,
    StartFailed,
    StartRefused,
    StillRunning,
)
from instances.events import publish_instance_event
from instances.models import Instance

RUNNING = (*ACTIVE, State.BACKOFF)
"""States in which a deletion must stop the instance first."""


@dataclass(frozen=True)
class Created:
    """A new instance, and sentences about what was corrected, ignored or did not work."""

    instance: Instance
    warnings: list[str]


@dataclass(frozen=True)
class Updated:
    """A changed instance, and sentences about what was corrected or ignored."""

    instance: Instance
    warnings: list[str]


def create_instance(*, actor: Actor, name: str, options: object, start: bool | None = None) -> Created:
    """Make an instance and, unless ``start`` is false (None: the setting ``start_on_create``), start it.

    The instance exists when this returns, whether or not it could be started; why not is among the warnings. Raises
    PermissionDenied, InvalidName, InvalidOptions, NameTaken, TooManyInstances or PortTaken, and then nothing exists.
    """
    require_creator(actor)
    check_name(name)
    wanted = read_options(options)
    check_options_allowed(actor=actor, backend_type=wanted.backend_type, options=wanted.options)
    instance = insert_instance(actor=actor, name=name, wanted=wanted)
    warnings = wanted.warnings
    if (settings.CORRAL.start_on_create if start is None else start) and not instance.disabled:
        try:
            instance = start_instance(actor=actor, instance=instance)
        except (NodeUnavailable, PermissionDenied, StartRefused, StartFailed) as error:
            warnings = [*warnings, f"The instance was created but not started: {error}"]
    return Created(waiting.read_instance(instance.pk), warnings)


def update_instance(*, actor: Actor, instance: Instance, options: object, merge: bool) -> Updated:
    """Replace an instance's options or, with ``merge``, change those given. Needs the level ``manage``.

    Port, engine and node stay when absent. A running process is replaced only when it has to be (see
    ``definitions.change_instance``). Raises PermissionDenied, InvalidOptions, PortTaken, NameTaken (an alias) or
    InstanceNotFound.
    """
    require_level(actor, instance, ShareLevel.MANAGE)
    row, warnings = change_instance(actor=actor, instance=instance, options=options, merge=merge)
    return Updated(row, warnings)


def start_instance(*, actor: Actor, instance: Instance) -> Instance:
    """Start an instance and return it as soon as its process runs, or its start is queued behind others' requests.

    Starting what runs changes nothing. Needs the level ``operate`` and, by a key, ``can_start``; without ``can_evict``
    it pushes nothing out. Raises PermissionDenied, InstanceDisabled, StartRefused (a limit), StartFailed (the engine
    ended at once) or NodeUnavailable; the wish does not outlive these.
    """
    require_level(actor, instance, ShareLevel.OPERATE)
    wanted_at = timezone.now()
    with transaction.atomic():
        row = lock_startable(instance)
        newest = waiting.last_run(row)
        is_wanted = row.desired_state == DesiredState.RUNNING
        if is_wanted and row.state in ACTIVE:
            return row
        require_starter(actor, row)
        if is_wanted and row.state == State.STOPPED and (row.evicts or not actor.can_evict):
            wake_node(row.node.name)  # it is queued already and keeps its place
        else:
            wish_running(row, actor=actor, kind="start")
    try:
        return waiting.wait_for_start(
            row,
            seconds=waiting.REACTION_S,
            generation=row.generation,
            after_run=newest,
            failure_code="start_failed",
        )
    except NodeUnavailable:
        if not is_wanted:
            waiting.take_back_start(row.pk, since=wanted_at, actor=actor.label)
        raise


def stop_instance(*, actor: Actor, instance: Instance) -> Instance:
    """Stop an instance and return it once it holds no process; requests in flight may finish (``drain_timeout``).

    Stopping what is stopped changes nothing; a failed instance becomes a stopped one; a pending restart is called off.
    Needs the level ``operate``. Raises PermissionDenied, NodeUnavailable or StopFailed.
    """
    require_level(actor, instance, ShareLevel.OPERATE)
    return stop_and_wait(actor=actor, instance=instance)


def restart_instance(*, actor: Actor, instance: Instance) -> Instance:
    """Replace an instance's process by a new one, or start it; return it when the new process runs.

    Needs the level ``operate`` and, by a key, ``can_start``. Raises as ``start_instance`` does, with the code
    ``restart_failed``.
    """
    require_level(actor, instance, ShareLevel.OPERATE)
    require_starter(actor, instance, "would be started anew")
    wanted_at = timezone.now()
    with transaction.atomic():
        row = lock_startable(instance)
        newest = waiting.last_run(row)
        had_process = row.state in ACTIVE
        row.generation += 1
        row.save(update_fields=["generation"])
        wish_running(row, actor=actor, kind="restart")
    seconds = waiting.REACTION_S + (waiting.stop_time_s() if had_process else 0)
    try:
        return waiting.wait_for_start(
            row, seconds=seconds, generation=row.generation, after_run=newest, failure_code="restart_failed"
        )
    except NodeUnavailable:
        if not had_process:
            waiting.take_back_start(row.pk, since=wanted_at, actor=actor.label)
        raise


def delete_instance(*, actor: Actor, instance: Instance, force: bool = True) -> None:
    """Stop an instance and remove it with its runs, logs, shares and key permissions; events stay.

    With ``force`` false a running one is refused (StillRunning). Needs the level ``manage``. Raises PermissionDenied,
    StillRunning, NodeUnavailable or StopFailed, and then the instance still exists.
    """
    require_level(actor, instance, ShareLevel.MANAGE)
    for _ in range(3):  # somebody may start it between the stop and the removal
        row = waiting.read_instance(instance.pk)
        if row.state in RUNNING:
            if not force:
                break
            stop_and_wait(actor=actor, instance=row)
        if remove_row(actor=actor, pk=instance.pk):
            return
    raise StillRunning(f"instance with name {instance.name} is still running, stop it before deleting")


def stop_and_wait(*, actor: Actor, instance: Instance) -> Instance:
    """Stop without asking for rights, and wait. See ``stop_instance``."""
    with transaction.atomic():
        row = lock_row(instance.pk)
        was_wanted = row.desired_state == DesiredState.RUNNING
        holds_process = row.state in RUNNING
        if holds_process:
            waiting.require_node(row.node)
        if was_wanted or row.state == State.FAILED:
            record_change(actor=actor, action="instance.stop", target=row)
        if was_wanted:
            row.desired_state = DesiredState.STOPPED
            row.updated_at = timezone.now()
            row.save(update_fields=["desired_state", "updated_at"])
            record_event(row, kind="stop", actor=actor.label)
        if row.state == State.FAILED:
            forget_failure(row, actor=actor)
        wake_node(row.node.name)
    if not holds_process:
        return waiting.read_instance(row.pk)
    try:
        return waiting.wait_for_stop(row)
    except NodeUnavailable:
        if was_wanted:
            waiting.take_back_stop(row.pk, actor=actor.label)
        raise


def lock_row(pk: int) -> Instance:
    """Return the instance, locked until the transaction ends; raise InstanceNotFound when it was deleted."""
    row = Instance.objects.select_for_update(of=("self",)).select_related("node", "owner").filter(pk=pk).first()
    if row is None:
        raise InstanceNotFound("The instance was deleted meanwhile.")
    return row


def lock_startable(instance: Instance) -> Instance:
    """Return the locked row of an instance that may be started now; raise InstanceDisabled or NodeUnavailable."""
    row = lock_row(instance.pk)
    if row.disabled:
        raise InstanceDisabled(f"{row.name} is disabled. Set disabled to false first.")
    waiting.require_node(row.node)
    return row


def wish_running(row: Instance, *, actor: Actor, kind: str) -> None:
    """Write the wish that the locked instance runs, as of now, and wake its node; a back-off ends."""
    now = timezone.now()
    if row.state == State.FAILED:
        forget_failure(row, actor=actor)
    row.desired_state = DesiredState.RUNNING
    row.wanted_at = row.updated_at = now
    row.evicts = actor.can_evict
    row.refused_at = None
    row.reason = ""
    row.restart_at = now if row.state == State.BACKOFF else row.restart_at
    row.save(update_fields=["desired_state", "wanted_at", "evicts", "updated_at", "refused_at", "reason", "restart_at"])
    record_event(row, kind=kind, actor=actor.label)
    record_change(actor=actor, action=f"instance.{kind}", target=row)
    wake_node(row.node.name)


def forget_failure(row: Instance, *, actor: Actor) -> None:
    """Move a failed instance to stopped, as an explicit wish overrules the failure; restarts are counted anew."""
    if transition(
        row.pk, to=State.STOPPED, actor=actor.label, allowed=[State.FAILED], restart_count=0, restart_at=None
    ):
        row.refresh_from_db()


def remove_row(*, actor: Actor, pk: int) -> bool:
    """Delete the instance if it holds no process and nobody wants it to run; False when it does."""
    with transaction.atomic():
        row = Instance.objects.select_for_update(of=("self",)).select_related("node", "owner").filter(pk=pk).first()
        if row is None:
            return True
        if row.state in RUNNING or row.runs.filter(exited_at__isnull=True).exists():
            return False
        runs = list(row.runs.values_list("pk", "token"))
        event = record_event(row, kind="deleted", actor=actor.label)
        record_change(actor=actor, action="instance.delete", target=row, before=read_fields(row, *DEFINITION))
        name, state = row.name, row.state
        row.delete()
        publish_instance_event(
            {"type": "instance.deleted", "instance_id": pk, "name": name, "state": state, "version": event.pk}
        )
        remove_files_on_commit(
            node=row.node, name=name, run_ids=[run_id for run_id, _ in runs], tokens=[token for _, token in runs]
        )
    return True
