"""What quotas need from outside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class QuotaSource(Protocol):
    """The calendar, and what the database knows; handed in, as the gateway knows neither."""

    def find_window(self, window: str, moment: float) -> tuple[float, float]:
        """When the window around a moment begins and ends, in seconds since the epoch."""

    def count_used(self, counters: Mapping[str, float]) -> dict[str, int]:
        """What each counter stands at since its window began; called in a thread. May raise anything."""


class NoQuotaSource:
    """Knows no calendar and no database: whoever is limited is refused."""

    def find_window(self, window: str, moment: float) -> tuple[float, float]:
        """Every moment is in a window of its own, which is never read."""
        return moment, moment

    def count_used(self, counters: Mapping[str, float]) -> dict[str, int]:
        """Raises, as no database is there."""
        raise LookupError("there is no database to ask")


NO_QUOTA_SOURCE = NoQuotaSource()
