"""Which requests may start an instance now, and which instances are idle: pure functions of reports and rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from instances.supervisor.reports import Waiting


def find_demand(waiting: Sequence[Waiting], *, changed_at: float, refused_at: float | None) -> Waiting | None:
    """Return the oldest waiting request that may start the instance, or None; it may evict when any of them may.

    ``changed_at`` and ``refused_at`` say when the instance last changed its state and when a start was last refused.
    Requests whose web process does not know of these yet don't count: a failure, a refusal or a stop is about to answer
    them. Compared for equality, as clocks of two hosts differ and may be set.
    """
    able = [
        entry
        for entry in waiting
        if entry.count > 0 and entry.can_start and entry.seen_change == changed_at and entry.seen_refusal == refused_at
    ]
    if not able:
        return None
    return replace(min(able, key=lambda entry: entry.since), can_evict=any(entry.can_evict for entry in able))


def remaining_backoff(restart_at: datetime | None, now: datetime, delay_s: float) -> float:
    """Seconds until a restart that another supervisor planned; never more than the delay, whatever the clock did."""
    if restart_at is None:
        return 0.0
    return max(0.0, min((restart_at - now).total_seconds(), delay_s))


def is_idle(*, ttl_s: int, quiet_s: float, in_flight: int, waiting: int) -> bool:
    """Whether an instance has been without a request for its whole time to live (0 = for ever)."""
    return ttl_s > 0 and in_flight == 0 and waiting == 0 and quiet_s >= ttl_s
