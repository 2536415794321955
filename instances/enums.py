"""States of an instance, which changes are allowed, and how llamactl names them."""

from __future__ import annotations

from django.db.models import TextChoices


class State(TextChoices):
    """Observed state; written by the supervisor only (see ``domain/transitions.py``)."""

    STOPPED = "stopped", "Stopped"
    STARTING = "starting", "Starting"
    READY = "ready", "Ready"
    STOPPING = "stopping", "Stopping"
    BACKOFF = "backoff", "Waiting to restart"
    FAILED = "failed", "Failed"


class DesiredState(TextChoices):
    """What the user wants; written by API, pages, gateway demand, idle stop and eviction."""

    RUNNING = "running", "Running"
    STOPPED = "stopped", "Stopped"


class ShareLevel(TextChoices):
    """What a share allows; each level includes the ones before it."""

    USE = "use", "Use"
    OPERATE = "operate", "Operate"
    MANAGE = "manage", "Manage"


ACTIVE = frozenset({State.STARTING, State.READY, State.STOPPING})
"""States in which a run exists and a place is taken."""

EDGES: dict[State, frozenset[State]] = {
    State.STOPPED: frozenset({State.STARTING, State.FAILED}),
    State.STARTING: frozenset({State.READY, State.STOPPING, State.BACKOFF, State.FAILED, State.STOPPED}),
    State.READY: frozenset({State.STOPPING, State.BACKOFF, State.FAILED, State.STOPPED}),
    State.STOPPING: frozenset({State.STOPPED, State.FAILED}),
    State.BACKOFF: frozenset({State.STARTING, State.STOPPED, State.FAILED}),
    State.FAILED: frozenset({State.STOPPED, State.STARTING}),
}
"""Allowed changes of state: from -> to. A start from ``failed`` is a user's or a request's explicit wish."""

LLAMACTL_STATUS: dict[str, str] = {
    State.STOPPED: "stopped",
    State.STARTING: "running",
    State.READY: "running",
    State.STOPPING: "shutting_down",
    State.BACKOFF: "restarting",
    State.FAILED: "failed",
}
LLAMACTL_STATUS_CODE: dict[str, int] = {
    "stopped": 0,
    "running": 1,
    "failed": 2,
    "restarting": 3,
    "shutting_down": 4,
}
