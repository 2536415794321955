"""What a user wants to run, and what the supervisor sees of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q, QuerySet

from instances.enums import LLAMACTL_STATUS, LLAMACTL_STATUS_CODE, DesiredState, State
from instances.models.node import Node

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser

    from accounts.models import User


class InstanceQuerySet(QuerySet["Instance"]):
    """Questions about instances."""

    def visible_to(self, user: User | AnonymousUser) -> InstanceQuerySet:
        """Instances this person may see: all for administrators and operators, otherwise owned or shared ones."""
        if not user.is_authenticated:
            return self.none()
        if user.is_operator:
            return self
        return self.filter(Q(owner=user) | Q(shares__user=user) | Q(shares__group__in=user.groups.all())).distinct()


class Instance(models.Model):
    """One server that Corral runs: options, owner, node, the wish and the observed state.

    ``options`` is what ``domain/options.py`` accepted, without the port. ``generation`` rises when a running process
    no longer matches the row (options changed, restart asked); the supervisor replaces runs of an older generation.
    ``reason`` says why it failed or waits; ``refused_at`` when a limit last refused a start.
    """

    name = models.CharField(max_length=50, unique=True)
    backend_type = models.CharField(max_length=20)
    options: models.JSONField[Any, Any] = models.JSONField(default=dict)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="instances"
    )
    node = models.ForeignKey(Node, on_delete=models.PROTECT, related_name="instances")
    port = models.PositiveIntegerField()
    port_is_fixed = models.BooleanField(default=False, help_text="Chosen by the user, not by Corral.")
    group = models.CharField(max_length=50, blank=True, db_index=True)
    pinned = models.BooleanField(default=False, help_text="Never stopped to make room for another.")
    disabled = models.BooleanField(default=False, help_text="Can't be started.")
    desired_state = models.CharField(max_length=20, choices=DesiredState.choices, default=DesiredState.STOPPED)
    wanted_at = models.DateTimeField(null=True, blank=True, help_text="When a start was last asked for.")
    evicts = models.BooleanField(default=True, help_text="The start last asked for may push out another instance.")
    state = models.CharField(max_length=20, choices=State.choices, default=State.STOPPED)
    state_changed_at = models.DateTimeField(auto_now_add=True)
    generation = models.PositiveIntegerField(default=1)
    restart_count = models.PositiveIntegerField(default=0)
    restart_at = models.DateTimeField(null=True, blank=True, help_text="End of the back-off.")
    reason = models.TextField(blank=True)
    refused_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects: ClassVar[models.Manager[Instance]] = InstanceQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["node", "port"], name="one_instance_per_node_and_port"),
            models.CheckConstraint(condition=Q(state__in=State.values), name="instance_state_is_known"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def status(self) -> str:
        """State in llamactl's words."""
        return LLAMACTL_STATUS[self.state]

    @property
    def status_code(self) -> int:
        """State as llamactl's integer."""
        return LLAMACTL_STATUS_CODE[self.status]

    @property
    def may_start(self) -> bool:
        """Whether a start makes sense now."""
        return not self.disabled and self.desired_state == DesiredState.STOPPED

    @property
    def may_stop(self) -> bool:
        """Whether a stop makes sense now."""
        return self.desired_state == DesiredState.RUNNING and self.state != State.FAILED
