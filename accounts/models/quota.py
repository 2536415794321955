"""How much may be used in a minute, a day or a month."""

from __future__ import annotations

from django.contrib.auth.models import Group
from django.db import models
from django.db.models import Q

from accounts.enums import QuotaUnit, QuotaWindow
from accounts.models.people import ApiKey, User

NOBODY = Q(user__isnull=True, group__isnull=True, key__isnull=True)


class Quota(models.Model):
    """A limit for a person, a team or a key; without any of them for each person who has no limit of that kind.

    A team's limit is for all its members together. ``limit`` null says that a person is not limited, whatever the
    limit for everybody is.
    """

    user = models.ForeignKey(User, null=True, blank=True, on_delete=models.CASCADE, related_name="quotas")
    group = models.ForeignKey(Group, null=True, blank=True, on_delete=models.CASCADE, related_name="quotas")
    key = models.ForeignKey(ApiKey, null=True, blank=True, on_delete=models.CASCADE, related_name="quotas")
    unit = models.CharField(max_length=20, choices=QuotaUnit.choices)
    window = models.CharField(max_length=20, choices=QuotaWindow.choices)
    limit = models.PositiveBigIntegerField(null=True, blank=True, help_text="Nothing: not limited.")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                condition=NOBODY
                | Q(user__isnull=False, group__isnull=True, key__isnull=True)
                | Q(user__isnull=True, group__isnull=False, key__isnull=True)
                | Q(user__isnull=True, group__isnull=True, key__isnull=False),
                name="quota_has_one_subject",
            ),
            models.CheckConstraint(condition=Q(limit__isnull=False) | Q(user__isnull=False), name="quota_has_a_limit"),
            models.UniqueConstraint(fields=["user", "unit", "window"], name="one_quota_per_user"),
            models.UniqueConstraint(fields=["group", "unit", "window"], name="one_quota_per_group"),
            models.UniqueConstraint(fields=["key", "unit", "window"], name="one_quota_per_key"),
            models.UniqueConstraint(fields=["unit", "window"], condition=NOBODY, name="one_quota_for_everybody"),
        ]

    def __str__(self) -> str:
        limit = "no limit of" if self.limit is None else str(self.limit)
        return f"{self.subject}: {limit} {self.unit} per {self.window}"

    @property
    def subject(self) -> str:
        """Whom it limits, in words."""
        if self.key is not None:
            return f"key {self.key}"
        if self.group is not None:
            return f"team {self.group}"
        return f"user {self.user}" if self.user is not None else "everybody"
