"""Writing what a user wants into rows: a new instance, or changed options of an existing one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.domain.actors import Actor
from accounts.domain.audit import read_fields, record_change
from instances.backends.base import Backend
from instances.backends.fields import FieldIndex, plain_name
from instances.backends.registry import BACKENDS
from instances.backends.values import is_absent
from instances.domain.access import check_options_allowed, require_starter
from instances.domain.aliases import check_name_is_free, lock_names, set_aliases
from instances.domain.option_readers import OptionReader
from instances.domain.options import (
    LAUNCH_OPTIONS,
    NOT_AN_OBJECT,
    WantedInstance,
    read_backend_options,
    read_options,
    replace_legacy_key,
)
from instances.domain.ports import allocate_port, claim_port
from instances.domain.transitions import record_event
from instances.domain.wake import wake_node
from instances.enums import DesiredState
from instances.errors import InstanceNotFound, InvalidOptions, NameTaken, PortTaken, TooManyInstances
from instances.models import Instance, Node

ATTEMPTS = 5
"""How often a write is tried again when another one took the chosen port in the meantime."""
DEFINITION = ("backend_type", "options", "owner", "node", "port", "group", "pinned", "disabled")
"""The fields that say what an instance is, for the audit."""


def insert_instance(*, actor: Actor, name: str, wanted: WantedInstance) -> Instance:
    """Make the row of a new, stopped instance.

    Raises InvalidOptions (unknown node, own name as alias), NameTaken, TooManyInstances or PortTaken. Two creations
    at once are told apart by the database's constraints, not by the look before.
    """
    node = find_node(wanted.node)
    for _ in range(ATTEMPTS):
        try:
            with transaction.atomic():
                return insert_row(actor=actor, name=name, wanted=wanted, node=node)
        except IntegrityError:
            continue
    raise PortTaken("failed to allocate port: others took every port that was chosen. Try again.")


def insert_row(*, actor: Actor, name: str, wanted: WantedInstance, node: Node) -> Instance:
    """Check what the database can't (limit, port) and insert; IntegrityError means that another was faster."""
    lock_names()  # creations queue here, so the limit holds as well
    check_name_is_free(name, actor=actor)
    limit = settings.CORRAL.max_instances
    if limit >= 0 and Instance.objects.count() >= limit:
        raise TooManyInstances(f"maximum number of instances ({limit}) reached")
    if wanted.port:
        claim_port(node=node, port=wanted.port)
    instance = Instance.objects.create(
        name=name,
        backend_type=wanted.backend_type,
        options=wanted.options,
        owner=actor.user,
        node=node,
        port=wanted.port or allocate_port(node=node),
        port_is_fixed=bool(wanted.port),
        group=wanted.group,
        pinned=wanted.pinned,
        disabled=wanted.disabled,
    )
    set_aliases(instance, wanted.options.get("aliases", ()), actor=actor)
    record_event(instance, kind="created", actor=actor.label)
    record_change(actor=actor, action="instance.create", target=instance, after=read_fields(instance, *DEFINITION))
    return instance


def find_node(name: str) -> Node:
    """Return the node of this name, this host's for an empty one; raise InvalidOptions when Corral doesn't know it."""
    if name in ("", settings.CORRAL.node):
        return Node.objects.get_or_create(name=settings.CORRAL.node)[0]
    node = Node.objects.filter(name=name).first()
    if node is None:
        message = f"node {name} not found"
        raise InvalidOptions(message, fields={"nodes": message})
    return node


def change_instance(*, actor: Actor, instance: Instance, options: object, merge: bool) -> tuple[Instance, list[str]]:
    """Replace the options (``merge``: change only those given) and return the row and warnings.

    Port, engine and node stay when absent; the node stays always. A change that a running process can't take over
    raises ``generation``, so that the supervisor replaces the process; others leave it alone. Disabling stops it. A key
    without ``can_start`` makes no change that would start a process anew, and without ``can_evict`` none that evicts.
    Raises InvalidOptions, PermissionDenied, PortTaken, NameTaken (an alias) or InstanceNotFound.
    """
    for _ in range(ATTEMPTS):
        try:
            with transaction.atomic():
                return change_row(actor=actor, pk=instance.pk, options=options, merge=merge)
        except IntegrityError:
            continue  # somebody was faster; the next look finds who
    error = PortTaken("failed to allocate port: others took it at the same moment. Try again.")
    error.code = "update_failed"
    raise error


def change_row(*, actor: Actor, pk: int, options: object, merge: bool) -> tuple[Instance, list[str]]:
    """Do the work of ``change_instance`` on the locked row."""
    row = Instance.objects.select_for_update(of=("self",)).select_related("node", "owner").filter(pk=pk).first()
    if row is None:
        raise InstanceNotFound("The instance was deleted meanwhile.")
    if not isinstance(options, Mapping):
        raise InvalidOptions(NOT_AN_OBJECT)
    wanted = read_options(merge_options(row, options) if merge else complete_options(row, options))
    check_options_allowed(actor=actor, backend_type=wanted.backend_type, options=wanted.options, before=row)
    if wanted.node not in ("", row.node.name):
        wanted.warnings.append(f"nodes was ignored: {row.name} stays on {row.node.name}.")
    definition = read_fields(row, *DEFINITION)
    before = (row.backend_type, row.port, *(row.options.get(name) for name in LAUNCH_OPTIONS))
    if wanted.port and wanted.port != row.port:
        try:
            claim_port(node=row.node, port=wanted.port, besides=row)
        except PortTaken as error:
            error.code = "update_failed"
            raise
        row.port, row.port_is_fixed = wanted.port, True
    row.backend_type, row.options, row.group = wanted.backend_type, wanted.options, wanted.group
    row.pinned, row.disabled = wanted.pinned, wanted.disabled
    if before != (row.backend_type, row.port, *(row.options.get(name) for name in LAUNCH_OPTIONS)):
        row.generation += 1
        if row.desired_state == DesiredState.RUNNING and not row.disabled:
            require_starter(actor, row, "would be started anew by this change")
            row.evicts = row.evicts and actor.can_evict
    if row.disabled:
        row.desired_state = DesiredState.STOPPED
    row.updated_at = timezone.now()
    row.save(
        update_fields=[
            "backend_type", "options", "group", "pinned", "disabled", "port", "port_is_fixed", "generation",
            "desired_state", "evicts", "updated_at",
        ]
    )  # fmt: skip
    try:
        set_aliases(row, wanted.options.get("aliases", ()), actor=actor)
    except NameTaken as error:
        error.code = "update_failed"
        raise
    record_event(row, kind="updated", actor=actor.label)
    after = read_fields(row, *DEFINITION)
    record_change(actor=actor, action="instance.update", target=row, before=definition, after=after)
    wake_node(row.node.name)
    return row, wanted.warnings


def complete_options(row: Instance, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with an older key renamed and the engine filled in when it is absent."""
    completed = replace_legacy_key(options)
    if completed.get("backend_type") is None:
        completed["backend_type"] = row.backend_type
    return completed


def merge_options(row: Instance, patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row's options changed by a patch as JSON Merge Patch has it (RFC 7396): null removes.

    Objects (``backend_options``, its ``extra_args``, ``environment``) merge key by key. Another engine begins without
    the old one's options.
    """
    patch = complete_options(row, patch)
    merged: dict[str, Any] = {
        **row.options, "backend_type": row.backend_type, "group": row.group,
        "pinned": row.pinned, "disabled": row.disabled,
    }  # fmt: skip
    for name, value in patch.items():
        if name == "environment" and isinstance(value, Mapping):
            merged[name] = merge_maps(merged.get(name, {}), value)
        elif name != "backend_options":
            merged[name] = value
    backend = BACKENDS.get(str(patch["backend_type"]))
    stored = row.options.get("backend_options", {}) if patch["backend_type"] == row.backend_type else {}
    changes = patch.get("backend_options")
    if backend is None or not isinstance(changes, Mapping):
        merged["backend_options"] = stored if changes is None and "backend_options" not in patch else changes
    else:
        merged["backend_options"] = merge_backend_options(backend, stored, changes)
    return merged


def merge_maps(stored: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stored map with the changes; a null removes its key."""
    return {key: value for key, value in {**stored, **changes}.items() if value is not None}


def merge_backend_options(backend: Backend, stored: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the engine's options with the changes, whatever alias they are written with."""
    index = FieldIndex(backend.fields)
    reader = OptionReader({})
    present = {key: value for key, value in changes.items() if not is_absent(value)}
    new = read_backend_options(reader, backend, present)
    reader.raise_faults()
    extra = {**stored.get("extra_args", {}), **new.get("extra_args", {})}
    merged = {**stored, **new}
    for key in changes.keys() - present.keys():
        option = index.find(key)
        merged.pop(option.name if option else plain_name(key), None)
        extra.pop(plain_name(key), None)
    removed = changes.get("extra_args")
    for key, value in removed.items() if isinstance(removed, Mapping) else ():
        if value is None:
            extra.pop(plain_name(key), None)
    keeps_extra = "extra_args" not in changes or not is_absent(changes["extra_args"])
    merged["extra_args"] = extra if keeps_extra else {}
    return merged
