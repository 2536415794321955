"""Teams: Django's groups with managers, and invitations."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.auth.models import Group
from django.db import models
from django.db.models import Q, QuerySet
from django.utils import timezone

from accounts.enums import Role
from accounts.models.people import User


class Team(models.Model):
    """A group of people that instances are shared with. Its members are the group's, its id is the group's.

    A manager is a member who may add and remove members and invite people into the team.
    """

    group = models.OneToOneField(Group, on_delete=models.CASCADE, primary_key=True, related_name="team")
    managers = models.ManyToManyField(User, blank=True, related_name="managed_teams")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["group__name"]

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        """The group's name."""
        return self.group.name

    @property
    def members(self) -> QuerySet[User]:
        """Everybody in the team, by name."""
        return User.objects.filter(groups=self.group_id).order_by("username")


class InvitationQuerySet(QuerySet["Invitation"]):
    """Questions about invitations."""

    def open(self) -> InvitationQuerySet:
        """Those that somebody can still accept."""
        return self.filter(used_at__isnull=True, withdrawn_at__isnull=True, expires_at__gt=timezone.now())


class Invitation(models.Model):
    """A link by which one person makes an account with a role, perhaps in a team. Only the token's SHA-256 is kept."""

    token_hash = models.CharField(max_length=64, unique=True, editable=False)
    role = models.CharField(max_length=20, choices=Role.choices, default=Role.MEMBER)
    team = models.ForeignKey(Team, null=True, blank=True, on_delete=models.CASCADE, related_name="invitations")
    note = models.CharField(max_length=100, blank=True, help_text="Whom it is for.")
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="invitations")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)
    used_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    withdrawn_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[models.Manager[Invitation]] = InvitationQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(used_at__isnull=True) | Q(withdrawn_at__isnull=True), name="invitation_used_or_withdrawn"
            )
        ]

    def __str__(self) -> str:
        return self.note or f"invitation {self.pk}"
