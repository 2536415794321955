"""Celery tasks about people."""

from __future__ import annotations

from celery import shared_task
from django.core.management import call_command

from accounts.domain.retention import delete_old_audit_entries, delete_old_requests
from accounts.domain.sessions import forget_ended_sessions


@shared_task(name="accounts.clear_sessions")
def clear_sessions() -> None:
    """Delete expired sessions; sent by beat every day."""
    call_command("clearsessions")
    forget_ended_sessions()


@shared_task(name="accounts.delete_old_activity")
def delete_old_activity() -> None:
    """Delete requests older than ``activity_days`` and audit entries older than ``audit_days``; beat's, every hour."""
    delete_old_requests()
    delete_old_audit_entries()
