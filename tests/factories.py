"""Rows for tests. Every value can be given; nothing else happens."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from accounts.domain.actors import CORRAL
from accounts.domain.keys import create_key
from accounts.enums import KeyKind, PermissionMode, Role
from accounts.models import User
from instances.enums import State
from instances.models import Instance, Node, Run

OPTIONS = {
    "backend_options": {"model": "/models/a.gguf"},
    "auto_restart": True,
    "max_restarts": 3,
    "restart_delay": 5,
    "on_demand_start": True,
    "idle_timeout": 30,
}


def make_user(username: str, role: Role = Role.MEMBER) -> User:
    """Make a person without a usable password."""
    user = User(username=username, role=role)
    user.set_unusable_password()
    user.save()
    return user


def make_key(
    user: User, kind: KeyKind = KeyKind.MANAGEMENT, permission_mode: PermissionMode = PermissionMode.ALLOW_ALL
) -> str:
    """Make a key and return its secret."""
    return create_key(
        actor=CORRAL, user=user, name=f"{kind} {secrets.token_hex(4)}", kind=kind, permission_mode=permission_mode
    )[1]


def make_node(name: str = "", *, alive: bool = False) -> Node:
    """Make or change a node; an empty name is this host's."""
    seen = timezone.now() if alive else timezone.now() - timedelta(hours=1)
    return Node.objects.update_or_create(name=name or settings.CORRAL.node, defaults={"last_seen_at": seen})[0]


def make_instance(name: str = "alpha", **fields: Any) -> Instance:
    """Make a stopped llama.cpp instance on this host's node, which is away unless made alive."""
    node = fields.pop("node", None) or Node.objects.filter(name=settings.CORRAL.node).first() or make_node()
    taken = set(Instance.objects.values_list("port", flat=True))
    fields.setdefault("port", next(port for port in range(8000, 9000) if port not in taken and port != 8080))
    fields.setdefault("backend_type", "llama_cpp")
    fields.setdefault("options", OPTIONS)
    return Instance.objects.create(name=name, node=node, **fields)


def make_run(instance: Instance, **fields: Any) -> Run:
    """Make a run of the instance; it is active unless ``exited_at`` is given."""
    fields.setdefault("token", secrets.token_hex(16))
    fields.setdefault("port", instance.port)
    fields.setdefault("generation", instance.generation)
    return Run.objects.create(instance=instance, node=instance.node, **fields)


def make_ready(name: str = "alpha", **fields: Any) -> Instance:
    """Make an instance whose process runs, as far as rows tell."""
    instance = make_instance(name, state=State.READY, desired_state="running", **fields)
    make_run(instance, started_at=timezone.now(), ready_at=timezone.now(), child_pid=4711)
    return instance
