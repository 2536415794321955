"""What is kept of requests and of changes, and for how long."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db.models import Model, QuerySet
from django.utils import timezone

from accounts.models import AuditEntry, RequestRecord

BATCH = 5_000
BATCHES_AT_MOST = 1_000


def delete_old_requests() -> int:
    """Delete requests older than ``activity_days`` and return how many; the sums by the hour stay."""
    return delete_older(RequestRecord.objects.order_by("finished_at"), "finished_at", settings.CORRAL.activity_days)


def delete_old_audit_entries() -> int:
    """Delete audit entries older than ``audit_days`` and return how many."""
    return delete_older(AuditEntry.objects.order_by("created_at"), "created_at", settings.CORRAL.audit_days)


def delete_older(rows: QuerySet[RequestRecord] | QuerySet[AuditEntry], column: str, days: int) -> int:
    """Delete rows whose time in ``column`` is more than ``days`` ago (0: none) and return how many.

    A batch is one short transaction, so that other writers get in between. What a run leaves, the next deletes.
    """
    if not days:
        return 0
    old = rows.filter(**{f"{column}__lt": timezone.now() - timedelta(days=days)})
    model: type[Model] = rows.model
    deleted = 0
    for _ in range(BATCHES_AT_MOST):
        ids = list(old.values_list("pk", flat=True)[:BATCH])
        deleted += model._default_manager.filter(pk__in=ids).delete()[0]  # noqa: SLF001  Django's public name for it
        if len(ids) < BATCH:
            break
    return deleted
