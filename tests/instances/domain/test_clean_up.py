"""Sweeping what runs leave behind."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from accounts.tasks import clear_sessions
from instances.domain.clean_up import sweep_files
from tests.factories import make_instance

OLD = time.time() - 3600


def make_log(data_dir: Path, name: str, run_id: int) -> Path:
    path = data_dir / "logs" / name / f"{run_id}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("line\n")
    os.utime(path.parent, (OLD, OLD))
    return path


@pytest.fixture
def data_dir(tmp_path: Path, change_settings: Callable[..., None]) -> Path:
    """A data folder of the test's own, keeping two runs per instance."""
    change_settings(data_dir=tmp_path, log_runs_kept=2)
    return tmp_path


def test_only_the_newest_runs_of_an_instance_keep_their_logs(db: None, data_dir: Path) -> None:
    """llamactl 11.2-32: logs were never removed."""
    instance = make_instance("kept")
    logs = [make_log(data_dir, "kept", run_id) for run_id in (1, 2, 3)]
    assert sweep_files(instance.node.name) == 1
    assert [log.exists() for log in logs] == [False, True, True]


def test_logs_of_an_instance_that_is_gone_are_removed_unless_they_are_new(db: None, data_dir: Path) -> None:
    gone = make_log(data_dir, "gone", 1)
    new = make_log(data_dir, "in-the-making", 2)
    os.utime(new.parent)
    sweep_files("main")
    assert (gone.exists(), new.exists()) == (False, True)


def test_folders_of_runs_that_are_over_are_removed(db: None, data_dir: Path) -> None:
    folder = data_dir / "runs" / ("0" * 32)
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text("{}")
    os.utime(folder, (OLD, OLD))
    sweep_files("main")
    assert not folder.exists()


def test_every_scheduled_task_exists(settings: object) -> None:
    from celery import current_app
    from django.conf import settings as django_settings

    current_app.loader.import_default_modules()
    for entry in django_settings.CELERY_BEAT_SCHEDULE.values():
        assert entry["task"] in current_app.tasks
        assert entry["options"]["queue"]


def test_expired_sessions_are_cleared(db: None) -> None:
    from datetime import timedelta

    from django.contrib.sessions.models import Session
    from django.utils import timezone

    Session.objects.create(session_key="old", session_data="", expire_date=timezone.now() - timedelta(days=1))
    clear_sessions()
    assert not Session.objects.exists()
