"""How long requests and audit entries are kept."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from accounts.domain import retention
from accounts.models import AuditEntry, HourlyUsage, RequestRecord
from accounts.tasks import delete_old_activity


def make_request(days: float) -> RequestRecord:
    """A request that ended so many days ago."""
    return RequestRecord.objects.create(
        finished_at=timezone.now() - timedelta(days=days), path="/v1/x", method="POST", status=200, duration_ms=1
    )


@pytest.mark.django_db
def test_old_requests_are_deleted_and_their_sums_stay(change_settings: Callable[..., None]) -> None:
    change_settings(activity_days=7)
    HourlyUsage.objects.create(hour=timezone.now() - timedelta(days=400), requests=5)
    kept = [make_request(days) for days in (0, 6.9)]
    for days in (7.1, 8, 400):
        make_request(days)

    delete_old_activity()

    assert set(RequestRecord.objects.all()) == set(kept)
    assert HourlyUsage.objects.get().requests == 5


@pytest.mark.django_db
def test_zero_days_keep_requests_for_ever(change_settings: Callable[..., None]) -> None:
    change_settings(activity_days=0)
    make_request(4000)
    assert retention.delete_old_requests() == 0
    assert RequestRecord.objects.count() == 1


@pytest.mark.django_db
def test_many_are_deleted_in_batches_and_no_more_than_that_at_once(
    monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    monkeypatch.setattr(retention, "BATCH", 10)
    monkeypatch.setattr(retention, "BATCHES_AT_MOST", 3)
    for days in range(45):
        make_request(100 + days)

    with django_assert_num_queries(6):
        assert retention.delete_old_requests() == 30
    assert retention.delete_old_requests() == 15
    assert retention.delete_old_requests() == 0


def test_beat_asks_for_it() -> None:
    entry = settings.CELERY_BEAT_SCHEDULE["delete old activity"]
    assert entry["task"] == delete_old_activity.name
    assert settings.CORRAL.activity_days == 30


@pytest.mark.django_db
def test_audit_entries_are_kept_for_a_year_unless_said_otherwise(change_settings: Callable[..., None]) -> None:
    assert settings.CORRAL.audit_days == 365
    for days in (0, 364, 366, 4000):
        entry = AuditEntry.objects.create(actor="user:ada", source="page", action="x.y")
        AuditEntry.objects.filter(pk=entry.pk).update(created_at=timezone.now() - timedelta(days=days))

    change_settings(audit_days=0)
    delete_old_activity()
    assert AuditEntry.objects.count() == 4

    change_settings(audit_days=365)
    delete_old_activity()
    assert AuditEntry.objects.count() == 2
