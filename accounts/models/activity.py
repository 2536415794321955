"""What was asked of instances: one row per request for a while, and sums by the hour for good.

Instances are named by id and name, without a foreign key: a row outlives its instance, and this app knows none.
"""

from __future__ import annotations

from django.db import models

from accounts.enums import RequestOutcome
from accounts.models.people import ApiKey, User


class RequestRecord(models.Model):
    """One request. Written by the gateway in batches (``gateway/ledger.py``), deleted after ``activity_days`` days.

    ``user_name`` and ``key_name`` say who it was when the person or the key is gone. ``prompt_tokens`` is the whole
    prompt, ``cached_tokens`` its part that came from a cache; speeds are as the engine reported them.
    """

    request_id = models.CharField(max_length=64, db_index=True, help_text="Corral's own id of the request.")
    finished_at = models.DateTimeField()
    user = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="requests", db_index=False)
    key = models.ForeignKey(ApiKey, null=True, on_delete=models.SET_NULL, related_name="requests", db_index=False)
    user_name = models.CharField(max_length=150, blank=True)
    key_name = models.CharField(max_length=150, blank=True, help_text="Name and first characters.")
    client_address = models.CharField(max_length=64, blank=True)
    instance_id = models.BigIntegerField(null=True)
    instance_name = models.CharField(max_length=50, blank=True)
    backend_type = models.CharField(max_length=20, blank=True)
    requested_model = models.CharField(max_length=200, blank=True, help_text="As the client named it.")
    path = models.CharField(max_length=200)
    method = models.CharField(max_length=20)
    status = models.PositiveSmallIntegerField(help_text="499: the client left. 0: nothing was answered.")
    outcome = models.CharField(max_length=20, choices=RequestOutcome.choices)
    error_message = models.CharField(max_length=300, blank=True)
    streamed = models.BooleanField(default=False)
    prompt_tokens = models.PositiveIntegerField(default=0)
    completion_tokens = models.PositiveIntegerField(default=0)
    cached_tokens = models.PositiveIntegerField(default=0)
    tokens_are_floor = models.BooleanField(
        default=False, help_text="The engine told too little: so many pieces of text were counted."
    )
    prompt_per_second = models.FloatField(null=True)
    tokens_per_second = models.FloatField(null=True)
    queue_ms = models.PositiveIntegerField(default=0, help_text="Waiting for the instance.")
    first_byte_ms = models.PositiveIntegerField(null=True, help_text="From the request to the answer's beginning.")
    duration_ms = models.PositiveIntegerField()

    class Meta:
        verbose_name = "request"
        ordering = ["-finished_at", "-id"]
        indexes = [
            # The newest are read first, but in this order new rows go to the end, which costs a fifth less.
            models.Index(fields=["finished_at", "id"], name="request_newest"),
            models.Index(fields=["user", "finished_at"], name="request_of_user"),
            models.Index(fields=["key", "finished_at"], name="request_with_key"),
            models.Index(fields=["instance_name", "finished_at"], name="request_to_instance"),
        ]

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.status}"


class HourlyUsage(models.Model):
    """What one person used of one instance with one key in an hour (UTC). Kept for good.

    Ids are plain numbers, 0 for none, so that sums stay when people, keys and instances go, and so that the database
    can hold them apart: it takes two nulls for different. Names are the latest known.
    """

    hour = models.DateTimeField(help_text="Its beginning.")
    user_id = models.BigIntegerField(default=0)
    key_id = models.BigIntegerField(default=0)
    instance_id = models.BigIntegerField(default=0)
    user_name = models.CharField(max_length=150, blank=True)
    key_name = models.CharField(max_length=150, blank=True)
    instance_name = models.CharField(max_length=50, blank=True)
    requests = models.BigIntegerField(default=0)
    errors = models.BigIntegerField(default=0, help_text="Status 400 and above, or an answer that broke off.")
    refused = models.BigIntegerField(default=0, help_text="Refused by Corral itself; no quota counts them.")
    prompt_tokens = models.BigIntegerField(default=0)
    completion_tokens = models.BigIntegerField(default=0)
    cached_tokens = models.BigIntegerField(default=0)
    duration_ms = models.BigIntegerField(default=0)

    class Meta:
        verbose_name = "hour of usage"
        verbose_name_plural = "hours of usage"
        ordering = ["-hour", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["hour", "user_id", "key_id", "instance_id"], name="one_sum_per_hour"),
        ]
        indexes = [
            models.Index(fields=["user_id", "hour"], name="usage_of_user"),
            models.Index(fields=["key_id", "hour"], name="usage_with_key"),
            models.Index(fields=["instance_name", "hour"], name="usage_of_instance"),
        ]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H:00} {self.user_name} {self.instance_name}"
