"""The Celery application: ``celery -A portal``. One worker per node; its bootstep runs the supervisor."""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

app = Celery("corral")
app.set_default()  # for every thread: tasks are sent from request threads too
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
# By name, so that only a worker imports it: web and beat must stay small.
app.steps["worker"].add("instances.supervisor.bootstep:SupervisorStep")
