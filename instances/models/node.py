"""A host that runs engines."""

from __future__ import annotations

from datetime import timedelta

from django.db import models
from django.utils import timezone


class Node(models.Model):
    """A host with one Corral worker. Its supervisor writes ``last_seen_at`` every few seconds."""

    ANSWERS_WITHIN = timedelta(seconds=15)

    name = models.CharField(max_length=50, unique=True)
    hostname = models.CharField(max_length=255, blank=True)
    version = models.CharField(max_length=50, blank=True)
    last_seen_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def is_alive(self) -> bool:
        """Whether its worker has been heard of lately."""
        return self.last_seen_at is not None and timezone.now() - self.last_seen_at < self.ANSWERS_WITHIN
