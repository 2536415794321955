"""Where people are signed in."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from accounts.models.people import User


class UserSession(models.Model):
    """A browser in which a person is signed in. What it may do is in Django's session, which this only describes.

    ``last_seen_at`` is exact to some minutes, so that reading pages does not write to the database each time.
    """

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="sessions")
    session_key = models.CharField(max_length=40, unique=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now)
    last_seen_at = models.DateTimeField(default=timezone.now)
    client_address = models.CharField(max_length=64, blank=True)
    user_agent = models.CharField(max_length=300, blank=True)

    class Meta:
        verbose_name = "session"
        ordering = ["-last_seen_at", "-id"]

    def __str__(self) -> str:
        return f"{self.user} from {self.client_address or 'somewhere'}"
