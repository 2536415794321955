"""Counting finished requests in memory: a few additions for each, no lock, no allocation that stays."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable
from http import HTTPStatus
from typing import Protocol

from gateway.metrics.fields import BOUND_NAMES, BOUNDS_S, DURATION, FIRST_BYTE, QUEUE, TOKEN_KINDS

_DURATION_BOUNDS = BOUNDS_S[DURATION]
_FIRST_BYTE_BOUNDS = BOUNDS_S[FIRST_BYTE]
_QUEUE_BOUNDS = BOUNDS_S[QUEUE]
_KNOWN_STATUS = frozenset(int(status) for status in HTTPStatus) | {499}


class Destination(Protocol):
    """What is read of a route."""

    @property
    def instance_id(self) -> int:
        """The instance."""

    @property
    def backend_type(self) -> str:
        """Its engine."""


class Tokens(Protocol):
    """What is read of an answer's usage; 0 means none, or not reported."""

    @property
    def prompt_tokens(self) -> int:
        """The whole prompt."""

    @property
    def completion_tokens(self) -> int:
        """What was generated."""

    @property
    def cached_tokens(self) -> int:
        """The part of the prompt that came from a cache."""


class Finished(Protocol):
    """What is read of a finished exchange (`gateway.exchange.Exchange`). Times are `time.monotonic()` seconds."""

    @property
    def route(self) -> Destination | None:
        """Where it went, or would have gone."""

    @property
    def status(self) -> int:
        """The status it was answered with; 0 when there was no answer."""

    @property
    def outcome(self) -> str:
        """One of a few words."""

    @property
    def received_s(self) -> float:
        """When it came."""

    @property
    def first_byte_s(self) -> float | None:
        """When the answer began."""

    @property
    def ended_s(self) -> float | None:
        """When it was over; None means now."""

    @property
    def queued_s(self) -> float:
        """Seconds that it waited for its instance."""

    @property
    def usage(self) -> Tokens | None:
        """What the engine reported."""


class _Histogram:
    __slots__ = ("counts", "sum_s")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.counts = [0] * (len(bounds) + 1)
        self.sum_s = 0.0

    def list_fields(self, name: str, instance_id: int) -> Iterable[tuple[str, int]]:
        for bound, count in zip(BOUND_NAMES[name], self.counts, strict=True):
            if count:
                yield f"{name}|{instance_id}|{bound}", count
        if self.sum_s:
            yield f"{name}|{instance_id}|sum", round(self.sum_s * 1e6)


class _Series:
    """The totals of one instance since this process began."""

    __slots__ = ("duration", "first_byte", "instance_id", "queue", "requests")

    def __init__(self, instance_id: int) -> None:
        self.instance_id = instance_id
        self.requests: dict[tuple[str, int, str], list[int]] = {}
        """By backend, status and outcome: requests, then tokens of each kind."""
        self.duration = _Histogram(_DURATION_BOUNDS)
        self.first_byte = _Histogram(_FIRST_BYTE_BOUNDS)
        self.queue = _Histogram(_QUEUE_BOUNDS)

    def list_fields(self) -> Iterable[tuple[str, int]]:
        instance_id = self.instance_id
        for (backend, status, outcome), (requests, *tokens) in self.requests.items():
            labels = f"{instance_id}|{backend}|{_name_status(status)}"
            yield f"requests|{labels}|{outcome}", requests
            for kind, count in zip(TOKEN_KINDS, tokens, strict=True):
                if count:
                    yield f"tokens|{labels}|{kind}", count
        yield from self.duration.list_fields(DURATION, instance_id)
        yield from self.first_byte.list_fields(FIRST_BYTE, instance_id)
        yield from self.queue.list_fields(QUEUE, instance_id)


class Collector:
    """The totals of this process. Used from one event loop only."""

    def __init__(self) -> None:
        self._series: dict[int, _Series] = {}
        self._changed: dict[int, _Series] = {}

    def observe(self, exchange: Finished) -> None:
        """Count a finished exchange."""
        ended_s = exchange.ended_s or time.monotonic()
        route = exchange.route
        if route is None:
            instance_id, backend = 0, ""
        else:
            instance_id, backend = route.instance_id, route.backend_type
        series = self._series.get(instance_id)
        if series is None:
            series = self._series[instance_id] = _Series(instance_id)
        self._changed[instance_id] = series
        key = (backend, exchange.status, exchange.outcome)
        counts = series.requests.get(key)
        if counts is None:
            counts = series.requests[key] = [0, 0, 0, 0]
        counts[0] += 1
        if route is None:
            return  # how long a refusal takes says nothing about any instance
        # Written out three times, as a call would double the cost.
        received_s = exchange.received_s
        seconds = ended_s - received_s
        histogram = series.duration
        histogram.counts[bisect_left(_DURATION_BOUNDS, seconds)] += 1
        histogram.sum_s += seconds
        if exchange.first_byte_s is not None:
            seconds = exchange.first_byte_s - received_s
            histogram = series.first_byte
            histogram.counts[bisect_left(_FIRST_BYTE_BOUNDS, seconds)] += 1
            histogram.sum_s += seconds
        if exchange.queued_s:
            histogram = series.queue
            histogram.counts[bisect_left(_QUEUE_BOUNDS, exchange.queued_s)] += 1
            histogram.sum_s += exchange.queued_s
        usage = exchange.usage
        if usage is not None:
            counts[1] += usage.prompt_tokens
            counts[2] += usage.completion_tokens
            counts[3] += usage.cached_tokens

    def take_changed(self) -> dict[str, int]:
        """The totals, since this process began, of every instance that had a request since the last call."""
        changed, self._changed = self._changed, {}
        fields: dict[str, int] = {}
        for series in changed.values():
            for field, value in series.list_fields():
                fields[field] = fields.get(field, 0) + value  # unusual statuses share a name
        return fields

    def forget(self, instance_ids: Iterable[int]) -> None:
        """Drop what was counted for deleted instances."""
        for instance_id in instance_ids:
            self._series.pop(instance_id, None)
            self._changed.pop(instance_id, None)


def _name_status(status: int) -> str:
    """The label of a status: its class when HTTP doesn't know it, so that no engine can make hundreds of them."""
    if status in _KNOWN_STATUS:
        return str(status)
    return f"{status // 100}xx" if status else "none"
