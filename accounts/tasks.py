"""Celery tasks about people."""

from __future__ import annotations

from celery import shared_task
from django.core.management import call_command


@shared_task(name="accounts.clear_sessions")
def clear_sessions() -> None:
    """Delete expired sessions; sent by beat every day."""
    call_command("clearsessions")
