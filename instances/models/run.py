"""The life of one process."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from instances.models.instance import Instance
from instances.models.node import Node


class Run(models.Model):
    """One start of an instance: where, which process, how it ended. ``exited_at`` empty means it is alive or unknown.

    The process is identified by pid + create time + boot id + token; never by pid alone, which the OS gives again.
    """

    instance = models.ForeignKey(Instance, on_delete=models.CASCADE, related_name="runs")
    node = models.ForeignKey(Node, on_delete=models.PROTECT, related_name="runs")
    port = models.PositiveIntegerField()
    generation = models.PositiveIntegerField()
    token = models.CharField(max_length=32, unique=True)
    shim_pid = models.PositiveIntegerField(null=True)
    shim_create_time = models.FloatField(null=True, help_text="Seconds since the epoch, as psutil gives it.")
    child_pid = models.PositiveIntegerField(null=True)
    boot_id = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    ready_at = models.DateTimeField(null=True)
    exited_at = models.DateTimeField(null=True)
    exit_code = models.IntegerField(null=True, help_text="Negative: the signal that ended it.")
    reason = models.TextField(blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["instance"], condition=Q(exited_at__isnull=True), name="one_active_run_per_instance"
            ),
            models.UniqueConstraint(
                fields=["node", "port"], condition=Q(exited_at__isnull=True), name="one_active_run_per_node_and_port"
            ),
        ]

    def __str__(self) -> str:
        return f"run {self.pk} of {self.instance_id}"
