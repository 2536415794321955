"""Keeping names apart: whatever a request calls a model, at most one instance answers to it."""

from __future__ import annotations

from collections.abc import Iterable

from accounts.domain.actors import Actor
from instances.domain.access import visible_instances
from instances.domain.option_readers import shorten
from instances.errors import InvalidOptions, NameTaken
from instances.models import Instance, InstanceAlias, Node


def lock_names() -> None:
    """Let nobody else take a name or an alias until the transaction ends; call it within one.

    SQLite's transactions queue anyway; PostgreSQL's queue at the rows of the nodes, of which there are few.
    """
    list(Node.objects.select_for_update(no_key=True).order_by("pk"))


def check_name_is_free(name: str, *, actor: Actor) -> None:
    """Raise NameTaken when an instance has the name, or has it as an alias. Call after ``lock_names``."""
    if Instance.objects.filter(name=name).exists():
        raise NameTaken(f"instance with name {name} already exists", fields={"name": "This name is taken."})
    row = InstanceAlias.objects.filter(alias=name).first()
    if row is not None:
        message = f"name {name} is an alias of {tell_holder(row.instance_id, actor=actor)}; choose another name"
        raise NameTaken(message, fields={"name": f"{message[0].upper()}{message[1:]}."})


def set_aliases(instance: Instance, aliases: Iterable[str], *, actor: Actor) -> None:
    """Make these the instance's aliases, within the transaction that stores them among its options.

    Raises InvalidOptions when one is the instance's own name and NameTaken when another instance has one of them as
    its name or alias.
    """
    wanted = dict.fromkeys(aliases)
    if instance.name in wanted:
        fault = f"aliases: {shorten(instance.name)} is the instance's own name; leave it out."
        raise InvalidOptions(fault, fields={"aliases": fault})
    stored = set(InstanceAlias.objects.filter(instance=instance).values_list("alias", flat=True))
    new = [alias for alias in wanted if alias not in stored]
    if new:
        lock_names()
        check_aliases_are_free(new, actor=actor)
    if gone := stored - wanted.keys():
        InstanceAlias.objects.filter(instance=instance, alias__in=gone).delete()
    InstanceAlias.objects.bulk_create(InstanceAlias(instance=instance, alias=alias) for alias in new)


def check_aliases_are_free(aliases: list[str], *, actor: Actor) -> None:
    """Raise NameTaken naming the first alias that an instance has as its name or alias."""
    names = dict(Instance.objects.filter(name__in=aliases).values_list("name", "pk"))
    others = dict(InstanceAlias.objects.filter(alias__in=aliases).values_list("alias", "instance_id"))
    for alias in aliases:
        if alias in names:
            fault = f"aliases: {shorten(alias)} is the name of another instance; choose another alias."
        elif alias in others:
            fault = f"aliases: {shorten(alias)} is an alias of {tell_holder(others[alias], actor=actor)} already."
        else:
            continue
        raise NameTaken(fault, fields={"aliases": fault})


def tell_holder(instance_id: int, *, actor: Actor) -> str:
    """Return who has a name, as far as the actor may know."""
    name = visible_instances(actor).filter(pk=instance_id).values_list("name", flat=True).first()
    return f"instance {name}" if name else "another instance"
