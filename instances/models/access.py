"""Who may use which instance."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from instances.enums import ShareLevel
from instances.models.instance import Instance


class InstanceShare(models.Model):
    """An instance shared with a person or a team."""

    instance = models.ForeignKey(Instance, on_delete=models.CASCADE, related_name="shares")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE, related_name="shares"
    )
    group = models.ForeignKey("auth.Group", null=True, blank=True, on_delete=models.CASCADE, related_name="shares")
    level = models.CharField(max_length=20, choices=ShareLevel.choices, default=ShareLevel.USE)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(user__isnull=True, group__isnull=False) | Q(user__isnull=False, group__isnull=True),
                name="share_is_with_a_user_or_a_group",
            ),
            models.UniqueConstraint(fields=["instance", "user"], name="one_share_per_user"),
            models.UniqueConstraint(fields=["instance", "group"], name="one_share_per_group"),
        ]

    def __str__(self) -> str:
        return f"{self.instance} for {self.user or self.group}: {self.level}"


class KeyPermission(models.Model):
    """An instance that a key of mode ``per_instance`` may use."""

    api_key = models.ForeignKey("accounts.ApiKey", on_delete=models.CASCADE, related_name="permissions")
    instance = models.ForeignKey(Instance, on_delete=models.CASCADE, related_name="key_permissions")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["api_key", "instance"], name="one_permission_per_key_and_instance")
        ]

    def __str__(self) -> str:
        return f"{self.api_key} may use {self.instance}"
