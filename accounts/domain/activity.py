"""What is kept of requests, and for how long."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from accounts.models import RequestRecord

BATCH = 5_000
BATCHES_AT_MOST = 1_000


def delete_old_requests() -> int:
    """Delete requests older than ``activity_days`` and return how many; the sums by the hour stay.

    A batch is one short transaction, so that the gateways' writes get in between. What a run leaves, the next deletes.
    """
    days = settings.CORRAL.activity_days
    if not days:
        return 0
    old = RequestRecord.objects.filter(finished_at__lt=timezone.now() - timedelta(days=days)).order_by("finished_at")
    deleted = 0
    for _ in range(BATCHES_AT_MOST):
        ids = list(old.values_list("pk", flat=True)[:BATCH])
        deleted += RequestRecord.objects.filter(pk__in=ids).delete()[0]
        if len(ids) < BATCH:
            break
    return deleted
