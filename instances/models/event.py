"""What happened to instances."""

from __future__ import annotations

from django.db import models

from instances.models.instance import Instance
from instances.models.run import Run


class InstanceEvent(models.Model):
    """One transition or request: from which state to which, by whom, why. Outlives the instance."""

    instance = models.ForeignKey(Instance, null=True, on_delete=models.SET_NULL, related_name="events")
    instance_name = models.CharField(max_length=50)
    run = models.ForeignKey(Run, null=True, on_delete=models.SET_NULL, related_name="events")
    kind = models.CharField(max_length=30, help_text="transition, created, updated, start, stop, restart, refused, ...")
    from_state = models.CharField(max_length=20, blank=True)
    to_state = models.CharField(max_length=20, blank=True)
    actor = models.CharField(max_length=100, help_text="user:name, key:id, supervisor, gateway")
    reason = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["instance", "-id"], name="event_by_instance")]

    def __str__(self) -> str:
        return f"{self.instance_name}: {self.kind} {self.from_state} {self.to_state}".strip()
