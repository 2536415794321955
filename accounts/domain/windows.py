"""The spans of the calendar in which quotas count: minutes, days and months of UTC."""

from __future__ import annotations

import calendar
import time

MINUTE_S = 60
DAY_S = 86400


def find_window(window: str, moment: float) -> tuple[float, float]:
    """Return when the minute, day or month around a moment begins and ends, in seconds since the epoch.

    The beginning belongs to it, the end does not. Raises KeyError for another word.
    """
    if window == "month":
        year, month = time.gmtime(moment)[:2]
        begins = calendar.timegm((year, month, 1, 0, 0, 0))
        return begins, calendar.timegm((year + month // 12, month % 12 + 1, 1, 0, 0, 0))
    seconds = {"minute": MINUTE_S, "day": DAY_S}[window]
    begins = int(moment // seconds) * seconds
    return begins, begins + seconds
