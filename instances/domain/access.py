"""Who may see an instance, what they may do with it, and which options they may set.

Administrators may do everything. Operators see and operate every instance, manage their own, and create instances of
installed engines with model files from the allowed folders. Members get what was shared with them. A management key
acts as its owner; one of mode ``per_instance`` opens only the instances it lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import QuerySet

from accounts.domain.actors import Actor
from accounts.domain.rights import is_restricted
from instances.backends.registry import get_backend
from instances.domain.names import check_name
from instances.enums import ShareLevel
from instances.errors import InstanceNotFound, PermissionDenied
from instances.models import Instance, InstanceShare

LEVELS = [ShareLevel.USE, ShareLevel.OPERATE, ShareLevel.MANAGE]
ADMINISTRATORS_OPTIONS = {
    "environment": "it can run code on the host",
    "command_override": "it can run code on the host",
    "preset_ini": "it may hold any option of the engine",
}
"""Options beside the engine's own that only administrators may set, and why."""


def visible_instances(actor: Actor) -> QuerySet[Instance]:
    """Return the instances the actor may see, with their node and owner, by name."""
    instances = Instance.objects.all()
    if actor.user is not None:
        instances = instances.visible_to(actor.user)
    if actor.is_limited_to_instances:
        instances = instances.filter(key_permissions__api_key=actor.key)
    return instances.select_related("node", "owner").order_by("name")


def find_instance(actor: Actor, name: str) -> Instance:
    """Return the instance of this name; raise InvalidName, or InstanceNotFound also when the actor may not see it."""
    check_name(name)
    instance = visible_instances(actor).filter(name=name).first()
    if instance is None:
        raise InstanceNotFound(f"instance with name {name} not found")
    return instance


def find_managed(actor: Actor, name: str) -> Instance:
    """Return the instance of this name, which the actor must have the level ``manage`` on.

    Raises as ``find_instance`` does, or PermissionDenied.
    """
    instance = find_instance(actor, name)
    require_level(actor, instance, ShareLevel.MANAGE)
    return instance


def levels_of(actor: Actor, instances: list[Instance]) -> dict[int, ShareLevel | None]:
    """Return what the actor may do with each instance, by id; one query whatever their number."""
    if actor.user is None or actor.is_admin:
        return dict.fromkeys((instance.pk for instance in instances), ShareLevel.MANAGE)
    found: dict[int, ShareLevel | None] = {
        instance.pk: ShareLevel.MANAGE
        if instance.owner_id == actor.user.pk
        else ShareLevel.OPERATE
        if actor.is_operator
        else None
        for instance in instances
    }
    others = [pk for pk, level in found.items() if level != ShareLevel.MANAGE]
    shares = InstanceShare.objects.filter(instance__in=others)
    mine = shares.filter(user=actor.user) | shares.filter(group__in=actor.user.groups.all())
    for instance_id, text in mine.values_list("instance_id", "level"):
        level, known = ShareLevel(text), found[instance_id]
        if known is None or LEVELS.index(level) > LEVELS.index(known):
            found[instance_id] = level
    return found


def has_level(actor: Actor, instance: Instance, level: ShareLevel) -> bool:
    """Whether the actor may do with the instance what ``level`` allows."""
    held = levels_of(actor, [instance])[instance.pk]
    return held is not None and LEVELS.index(held) >= LEVELS.index(level)


def require_level(actor: Actor, instance: Instance, level: ShareLevel) -> None:
    """Raise PermissionDenied unless the actor may do with the instance what ``level`` allows.

    Raises InstanceNotFound when the actor may do nothing with it: whoever lost it a moment ago, after it was found for
    them, is told no more of it than they would be a moment later.
    """
    held = levels_of(actor, [instance])[instance.pk]
    if held is None:
        raise InstanceNotFound(f"instance with name {instance.name} not found")
    if LEVELS.index(held) < LEVELS.index(level):
        verb = {
            ShareLevel.USE: "use",
            ShareLevel.OPERATE: "operate (start, stop, read the log of)",
            ShareLevel.MANAGE: "change",
        }[level]
        raise PermissionDenied(f"You may not {verb} {instance.name}. Ask its owner or an administrator.")


def require_right_to_share(actor: Actor, instance: Instance) -> None:
    """Raise PermissionDenied unless the actor may share the instance and give it away.

    That needs the level ``manage``, and no key that is less than its owner: what it gave would outlast it.
    """
    require_level(actor, instance, ShareLevel.MANAGE)
    if actor.key is not None and is_restricted(actor.key):
        raise PermissionDenied("A key that ends or is limited in any way can't share instances or give them away.")


def require_starter(actor: Actor, instance: Instance, state: str = "is not running") -> None:
    """Raise PermissionDenied when the actor's key may start nothing. ``state`` says why the instance would be started.

    The words are the gateway's, which holds the same for requests (``gateway/refusals.py``).
    """
    if not actor.can_start:
        raise PermissionDenied(f"Instance {instance.name} {state} and this key may not start instances")


def require_creator(actor: Actor) -> None:
    """Raise PermissionDenied unless the actor may create instances."""
    if not actor.is_operator:
        raise PermissionDenied("Only operators and administrators may create instances.")
    if actor.is_limited_to_instances:
        raise PermissionDenied("This key is limited to chosen instances and can't create others.")


def check_options_allowed(
    *, actor: Actor, backend_type: str, options: Mapping[str, Any], before: Instance | None = None
) -> None:
    """Raise PermissionDenied naming the first option that only an administrator may set so.

    A key that is limited to instances sets none of these either: a program that it started could use the others. A
    key that may not start sets nothing to be started with Corral. What already stands in ``before`` was granted when
    it was set and may stay.
    """
    if options.get("preload") and not (before and before.options.get("preload")) and not actor.can_start:
        raise refuse_option("preload", "Corral would start it, and this key may not start instances")
    if actor.is_admin and not actor.is_limited_to_instances:
        return
    backend = get_backend(backend_type)
    granted: Mapping[str, Any] = before.options if before and before.backend_type == backend_type else {}
    engine, engine_granted = (stored.get("backend_options", {}) for stored in (options, granted))
    if backend.administrators_only and not (granted and engine == engine_granted):
        raise refuse_option("backend_type", f"{backend.label} runs any program, so only an administrator may set this")
    for name, why in ADMINISTRATORS_OPTIONS.items():
        if options.get(name) and options.get(name) != granted.get(name):
            raise refuse_option(name, f"{why}, so only an administrator may set this")
    approved = {privilege.option: privilege.approved for privilege in backend.privileges_in(engine_granted)}
    for privilege in backend.privileges_in(engine):
        if privilege.option not in approved or approved[privilege.option] != privilege.approved:
            raise refuse_option(f"backend_options.{privilege.option}", privilege.message)
    named = set(backend.files_named_by(engine_granted))
    for option, text in backend.files_named_by(engine):
        if (option, text) not in named and not is_in_model_roots(text):
            roots = ", ".join(str(root) for root in settings.CORRAL.model_roots)
            why = f"{text} is not inside a model folder ({roots}), so only an administrator may set this"
            raise refuse_option(f"backend_options.{option}", why)


def is_in_model_roots(text: str) -> bool:
    """Whether a path, after following symbolic links, lies in a folder of models. Relative ones never do."""
    path = Path(text)
    if not path.is_absolute():
        return False
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError, ValueError):
        return False
    return any(resolved.is_relative_to(root) for root in settings.CORRAL.model_roots)


def refuse_option(option: str, why: str) -> PermissionDenied:
    """Return the error for an option that only an administrator may set so."""
    message = f"{option}: {why}."
    return PermissionDenied(message, fields={option: message})
