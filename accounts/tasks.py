"""Celery tasks about people."""

from __future__ import annotations

from celery import shared_task
from django.core.management import call_command

from accounts.domain.activity import delete_old_requests
from accounts.domain.sessions import forget_ended_sessions


@shared_task(name="accounts.clear_sessions")
def clear_sessions() -> None:
    """Delete expired sessions; sent by beat every day."""
    call_command("clearsessions")
    forget_ended_sessions()


@shared_task(name="accounts.delete_old_activity")
def delete_old_activity() -> None:
    """Delete requests that are older than ``activity_days``; sent by beat every hour."""
    delete_old_requests()
