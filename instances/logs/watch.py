"""Knows which runs an instance has, for all followers of its log in a process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from django import db

from instances.logs.cancellation import wait_briefly
from instances.logs.database import run_query
from instances.logs.text import RunInfo
from instances.models import Instance, Run

logger = logging.getLogger(__name__)

LOOK_S = 2.0
RUNS_KNOWN = 50


@dataclass
class Sight:
    """What one look at the database found; ``state`` None: the instance was deleted."""

    state: str | None
    runs: dict[int, RunInfo] = field(default_factory=dict)


def look_at(instance_id: int) -> Sight:
    """Read an instance's state and its newest runs, oldest first. Synchronous."""
    state = Instance.objects.filter(pk=instance_id).values_list("state", flat=True).first()
    if state is None:
        return Sight(None)
    rows = Run.objects.filter(instance_id=instance_id).order_by("-pk")
    found = [RunInfo(*row) for row in rows.values_list("pk", "node__name", "started_at", "exited_at")[:RUNS_KNOWN]]
    return Sight(state, {run.id: run for run in reversed(found)})


class InstanceWatch:
    """Looks at an instance every two seconds, and at once when an event says that it changed."""

    def __init__(self, instance_id: int) -> None:
        self.instance_id = instance_id
        self.sight: Sight | None = None
        """None until the first look."""
        self.listeners: set[Callable[[], None]] = set()
        self._hint = asyncio.Event()

    def hint(self) -> None:
        """Look now: something may have changed."""
        self._hint.set()

    def find_next_run(self, run_id: int) -> RunInfo | None:
        """Return the oldest known run after this one, None when there is none yet."""
        runs = self.sight.runs if self.sight else {}
        return next((run for known, run in runs.items() if known > run_id), None)

    async def run(self) -> None:
        """Look until the task is cancelled."""
        while True:
            self._hint.clear()
            try:
                self.sight = await run_query(look_at, self.instance_id)
            except db.Error as error:
                logger.warning("instance %d: its runs can't be read, trying again: %s", self.instance_id, error)
            for listener in list(self.listeners):
                listener()
            await wait_briefly(self._hint, LOOK_S)
