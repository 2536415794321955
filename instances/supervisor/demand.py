"""Which requests may start an instance now, and which instances are idle: pure functions of reports and rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from instances.supervisor.reports import Waiting


def find_demand(waiting: Sequence[Waiting], *, not_before: float) -> Waiting | None:
    """Return the oldest waiting request that may start the instance and came after ``not_before`` (epoch seconds).

    ``not_before`` is the moment of the last failure or explicit stop: those who waited then were answered, a report
    that still lists them is old.
    """
    able = [entry for entry in waiting if entry.count > 0 and entry.can_start and entry.since > not_before]
    return min(able, key=lambda entry: entry.since, default=None)


def remaining_backoff(restart_at: datetime | None, now: datetime, delay_s: float) -> float:
    """Seconds until a restart that another supervisor planned; never more than the delay, whatever the clock did."""
    if restart_at is None:
        return 0.0
    return max(0.0, min((restart_at - now).total_seconds(), delay_s))


def is_idle(*, idle_timeout_min: int, quiet_s: float, in_flight: int, waiting: int) -> bool:
    """Whether an instance has been without a request for longer than its ``idle_timeout`` (minutes; 0 = never)."""
    return idle_timeout_min > 0 and in_flight == 0 and waiting == 0 and quiet_s > idle_timeout_min * 60
