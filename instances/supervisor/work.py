"""What the database says this node should do; every function runs in the supervisor's database thread."""

from __future__ import annotations

import socket
from collections.abc import Collection
from dataclasses import dataclass

from django.conf import settings
from django.utils import timezone

from instances.models import Instance, Node, Run


@dataclass(frozen=True)
class Work:
    """The instances of a node, and the active run of each that has one, by instance id."""

    instances: list[Instance]
    runs: dict[int, Run]


def register_node(name: str) -> int:
    """Return the id of this host's row; make it at the first start."""
    node, _ = Node.objects.update_or_create(
        name=name,
        defaults={"hostname": socket.gethostname(), "version": settings.CORRAL_VERSION, "last_seen_at": timezone.now()},
    )
    return node.pk


def load_work(node_id: int) -> Work:
    """Read all that the supervisor decides by, in two queries."""
    instances = list(Instance.objects.filter(node_id=node_id).order_by("wanted_at", "id"))
    runs = {run.instance_id: run for run in Run.objects.filter(node_id=node_id, exited_at__isnull=True)}
    return Work(instances, runs)


def find_unknown(names: Collection[str]) -> list[str]:
    """Return those that are neither the name nor an alias of any instance of any node."""
    known: set[str] = set()
    for name, options in Instance.objects.values_list("name", "options"):
        known |= {name, *options.get("aliases", ())}
    return sorted(set(names) - known)


def beat(node_id: int) -> None:
    """Say that this node's supervisor is alive."""
    Node.objects.filter(pk=node_id).update(last_seen_at=timezone.now())


def used_ports(node_id: int) -> set[int]:
    """Return ports that instances or active runs of the node hold, and Corral's own."""
    held = set(Instance.objects.filter(node_id=node_id).values_list("port", flat=True))
    held |= set(Run.objects.filter(node_id=node_id, exited_at__isnull=True).values_list("port", flat=True))
    return held | {settings.CORRAL.port}
