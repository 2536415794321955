"""Adding requests up by the hour, before they go to the database."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gateway.accounting.entry import CLIENT_CLOSED_REQUEST, RequestEntry
from gateway.accounting.usage import LARGEST

_HOUR_S = 3600


class HourSum(msgspec.Struct, array_like=True, gc=False):
    """What one person used of one instance with one key in an hour, as `accounts.models.HourlyUsage`; no id is 0."""

    hour: int
    """Its beginning, in seconds since the epoch."""
    user_id: int
    key_id: int
    instance_id: int
    user_name: str
    key_name: str
    instance_name: str
    requests: int = 0
    errors: int = 0
    refused: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    duration_ms: int = 0


def add_up(entries: Iterable[RequestEntry]) -> list[HourSum]:
    """The sums, in the order of hours and ids: who writes them locks rows in this order, in every process.

    Written in Python, not SQL: a microsecond for each entry, where a database takes six for reading them once more.
    """
    sums: dict[tuple[int, int, int, int], HourSum] = {}
    for entry in entries:
        hour = int(entry.finished_at // _HOUR_S)
        place = (hour, entry.user_id or 0, entry.key_id or 0, entry.instance_id or 0)
        total = sums.get(place)
        if total is None:
            names = (entry.user_name, entry.key_name, entry.instance_name)
            total = sums[place] = HourSum(hour * _HOUR_S, *place[1:], *names)
        total.requests += 1
        if entry.outcome == "upstream_lost" or (entry.status >= 400 and entry.status != CLIENT_CLOSED_REQUEST):
            total.errors += 1
        if entry.outcome == "refused":
            total.refused += 1
        total.prompt_tokens += entry.prompt_tokens
        total.completion_tokens += entry.completion_tokens
        total.cached_tokens += entry.cached_tokens
        total.duration_ms += min(max(entry.duration_ms, 0), LARGEST)
    return [sums[place] for place in sorted(sums)]
