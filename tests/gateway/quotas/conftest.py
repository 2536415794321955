from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from accounts.domain.windows import find_window
from gateway.structs import Principal, PrincipalKind, Quota


class Source:
    """The calendar, and a database that a test fills or breaks."""

    def __init__(self) -> None:
        self.recorded: dict[str, int] = {}
        self.error: Exception | None = None
        self.asked = 0
        self.gate = threading.Event()
        self.gate.set()

    def find_window(self, window: str, moment: float) -> tuple[float, float]:
        return find_window(window, moment)

    def count_used(self, counters: Mapping[str, float]) -> dict[str, int]:
        self.asked += 1
        self.gate.wait(30)
        if self.error is not None:
            raise self.error
        return {counter: self.recorded.get(counter, 0) for counter in counters}


def make_quota(unit: str = "requests", window: str = "day", limit: int = 3, subject: str = "key:1") -> Quota:
    counter = f"{subject}:{unit}:{window}"
    return Quota(counter=counter, unit=unit, window=window, limit=limit, whose="this key")  # type: ignore[arg-type]


def limited(*quotas: Quota, kind: PrincipalKind = "inference") -> Principal:
    return Principal(kind=kind, key_id=1, user_id=1, instances=None, quotas=quotas)


def seconds_left(window: str) -> float:
    """Until the current window ends; tests that need more wait for the next."""
    return find_window(window, time.time())[1] - time.time()
