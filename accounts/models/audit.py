"""Who changed what."""

from __future__ import annotations

from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models

from accounts.enums import AuditSource
from accounts.models.people import User


class AuditEntry(models.Model):
    """One change that a person, a key or a command made. Written once (``domain/audit.py``), never changed.

    Deleted after ``audit_days`` days. Names are kept as text beside the ids: an entry outlives whom and what it names.
    ``before`` and ``after`` hold only the fields that changed, secrets masked; null where there was nothing to compare.
    """

    created_at = models.DateTimeField(auto_now_add=True)
    actor = models.CharField(max_length=150, help_text="user:name, key:id (user:name), console:name, ...")
    user = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="audit_entries", db_index=False)
    user_name = models.CharField(max_length=150, blank=True)
    key_id = models.BigIntegerField(null=True)
    key_name = models.CharField(max_length=150, blank=True, help_text="Name and first characters.")
    source = models.CharField(max_length=20, choices=AuditSource.choices)
    client_address = models.CharField(max_length=64, blank=True)
    request_id = models.CharField(max_length=64, blank=True)
    action = models.CharField(max_length=50, help_text="Kind of object and verb, such as instance.create.")
    target_type = models.CharField(max_length=50, blank=True, help_text="Kind of object, such as instance.")
    target_id = models.CharField(max_length=64, blank=True)
    target_label = models.CharField(max_length=200, blank=True, help_text="The object's name at that time.")
    before: models.JSONField[Any, Any] = models.JSONField(null=True, encoder=DjangoJSONEncoder)
    after: models.JSONField[Any, Any] = models.JSONField(null=True, encoder=DjangoJSONEncoder)

    class Meta:
        verbose_name = "audit entry"
        verbose_name_plural = "audit entries"
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["created_at"], name="audit_by_time"),
            models.Index(fields=["user", "-id"], name="audit_of_user"),
            models.Index(fields=["action", "-id"], name="audit_of_action"),
            models.Index(fields=["target_type", "target_id", "-id"], name="audit_of_target"),
        ]

    def __str__(self) -> str:
        return f"{self.actor} {self.action} {self.target_label}".strip()
