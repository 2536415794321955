"""People and their API keys."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import Q, QuerySet
from django.utils import timezone

from accounts.enums import KeyKind, PermissionMode, Role


class User(AbstractUser):
    """A person. ``role`` decides what they may do; ``is_staff``/``is_superuser`` follow from it (see ``save``)."""

    role = models.CharField(max_length=20, choices=Role.choices, default=Role.MEMBER)
    awaits_approval = models.BooleanField(
        default=False, help_text="Registered without an invitation and not let in by an administrator yet."
    )

    def save(self, *args: object, **kwargs: object) -> None:
        """Keep Django's own admin flags in step with the role, so that there is one place to look."""
        self.is_staff = self.is_superuser = self.role == Role.ADMIN
        super().save(*args, **kwargs)  # type: ignore[arg-type]  # Django's stubs spell the parameters out

    @property
    def is_admin(self) -> bool:
        """Whether this person may do everything."""
        return self.is_active and self.role == Role.ADMIN

    @property
    def is_operator(self) -> bool:
        """Whether this person may create and run instances."""
        return self.is_active and self.role in (Role.ADMIN, Role.OPERATOR)


class ApiKeyQuerySet(QuerySet["ApiKey"]):
    """Questions about keys."""

    def usable(self) -> ApiKeyQuerySet:
        """Keys that open something now: not revoked, not expired, owner active."""
        return self.filter(
            Q(expires_at__isnull=True) | Q(expires_at__gt=timezone.now()), revoked_at__isnull=True, user__is_active=True
        )

    def with_secret(self, key_hash: str) -> ApiKeyQuerySet:
        """The key whose secret has this SHA-256, be it its own or the former one while that is still good."""
        former = Q(former_hash=key_hash, former_ends_at__gt=timezone.now())
        return self.filter(Q(key_hash=key_hash) | former)


class ApiKey(models.Model):
    """A secret that acts for a user.

    Only its SHA-256 is kept: it carries 256 random bits, so no slow hash is needed. After a rotation the secret before
    may stay good for a while (``former_hash`` until ``former_ends_at``).
    """

    name = models.CharField(max_length=100)
    kind = models.CharField(max_length=20, choices=KeyKind.choices, default=KeyKind.INFERENCE)
    key_hash = models.CharField(max_length=64, unique=True, editable=False)
    key_hint = models.CharField(max_length=32, editable=False, help_text="First characters, to tell keys apart.")
    former_hash = models.CharField(max_length=64, unique=True, null=True, blank=True, editable=False)
    former_ends_at = models.DateTimeField(null=True, blank=True, editable=False)
    is_former = False
    """Whether it was found by its former secret; no column."""
    note = models.CharField(max_length=500, blank=True, help_text="What it is for; shown to whoever may see the key.")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_keys")
    permission_mode = models.CharField(max_length=20, choices=PermissionMode.choices, default=PermissionMode.ALLOW_ALL)
    can_start = models.BooleanField(default=True, help_text="Requests may start a stopped instance.")
    can_evict = models.BooleanField(default=True, help_text="Requests may push out another instance.")
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects: ClassVar[models.Manager[ApiKey]] = ApiKeyQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-id"]
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.name} ({self.key_hint}…)"
