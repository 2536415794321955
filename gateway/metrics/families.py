"""From totals, reports and samples to metric families, in the names of Prometheus."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.metrics.fields import BOUND_NAMES, DURATION, FIRST_BYTE, QUEUE, TOKEN_KINDS
from gateway.metrics.host import list_host_families, list_process_families
from gateway.metrics.reading import Picture
from gateway.structs import Route

STATES = ("stopped", "starting", "ready", "stopping", "backoff", "failed")

HISTOGRAMS = (
    (DURATION, "corral_request_duration_seconds", "Time from a request's arrival to the end of its answer."),
    (FIRST_BYTE, "corral_time_to_first_byte_seconds", "Time from a request's arrival to the head of its answer."),
    (
        QUEUE,
        "corral_queue_time_seconds",
        "Time that requests waited for their instance; others are not in it.",
    ),
)
COUNTERS = (
    ("starts", "corral_instance_starts", "Starts of an instance's process."),
    ("start_failures", "corral_instance_start_failures", "Starts that failed before the instance was ready."),
    ("crashes", "corral_instance_crashes", "Ends of an instance's process that nobody had asked for."),
    ("swaps", "corral_instance_swaps", "Times an instance was stopped to make room for another."),
    ("refusals", "corral_instance_start_refusals", "Starts that a limit refused."),
)


class PictureCollector(Collector):
    """Yields what one asker may see. `usable` says whether an instance is theirs; None shows all, and the hosts."""

    def __init__(
        self, picture: Picture, routes: Mapping[int, Route], usable: Callable[[int], bool] | None = None
    ) -> None:
        self._picture = picture
        self._sees_all = usable is None
        self._routes = {key: route for key, route in routes.items() if usable is None or usable(key)}
        self._names = {key: route.name for key, route in self._routes.items()}

    def collect(self) -> Iterator[Metric]:
        """The families; an instance that is gone has no rows any more."""
        by_kind: dict[str, list[tuple[list[str], int]]] = defaultdict(list)
        for field, value in self._picture.totals.items():
            kind, *rest = field.split("|")
            by_kind[kind].append((rest, value))
        yield self._list_requests(by_kind["requests"])
        yield self._list_tokens(by_kind["tokens"])
        for kind, name, text in HISTOGRAMS:
            yield self._list_histogram(kind, name, text, by_kind[kind])
        for kind, name, text in COUNTERS:
            yield self._list_counter(name, text, by_kind[kind])
        yield from self._list_gauges()
        if self._sees_all:
            dropped = sum(value for _, value in by_kind["dropped"])
            text = "Accounting rows lost because the database was away for too long."
            yield CounterMetricFamily("corral_accounting_dropped_rows", text, value=dropped)
            yield GaugeMetricFamily(
                "corral_web_processes", "Web processes that are alive.", value=len(self._picture.reports)
            )
            yield from list_host_families(self._picture.nodes)
        yield from list_process_families(self._picture.nodes, self._names)

    def _name(self, text: str) -> str | None:
        """The instance's label: empty for requests that came to none, None when it isn't to be shown."""
        if text == "0":
            return "" if self._sees_all else None
        return self._names.get(int(text)) if text.isdecimal() else None

    def _list_requests(self, rows: Iterable[tuple[list[str], int]]) -> Metric:
        labels = ("instance", "backend", "status", "outcome")
        family = CounterMetricFamily("corral_requests", "Requests that are over.", labels=labels)
        for rest, value in rows:
            if len(rest) == 4 and (name := self._name(rest[0])) is not None:
                family.add_metric([name, *rest[1:]], value)
        return family

    def _list_tokens(self, rows: Iterable[tuple[list[str], int]]) -> Metric:
        text = "Tokens as the engines reported them; cached ones are part of the prompt."
        family = CounterMetricFamily("corral_tokens", text, labels=("instance", "backend", "status", "kind"))
        for rest, value in rows:
            if len(rest) == 4 and rest[3] in TOKEN_KINDS and (name := self._name(rest[0])) is not None:
                family.add_metric([name, *rest[1:]], value)
        return family

    def _list_counter(self, name: str, text: str, rows: Iterable[tuple[list[str], int]]) -> Metric:
        family = CounterMetricFamily(name, text, labels=("instance",))
        counts = {rest[0]: value for rest, value in rows if len(rest) == 1}
        for instance_id, instance in self._names.items():
            # Zero from the beginning: rate() must not miss the first one.
            family.add_metric([instance], counts.get(str(instance_id), 0))
        return family

    def _list_histogram(self, kind: str, name: str, text: str, rows: Iterable[tuple[list[str], int]]) -> Metric:
        family = HistogramMetricFamily(name, text, labels=("instance",))
        by_instance: dict[str, dict[str, int]] = defaultdict(dict)
        for rest, value in rows:
            if len(rest) == 2:
                by_instance[rest[0]][rest[1]] = value
        for instance_id, counts in by_instance.items():
            if (instance := self._name(instance_id)) is not None:
                total_s = counts.pop("sum", 0) / 1e6
                family.add_metric([instance], _accumulate(counts, BOUND_NAMES[kind]), total_s)
        return family

    def _list_gauges(self) -> Iterator[Metric]:
        reports = self._picture.reports
        in_flight = GaugeMetricFamily("corral_requests_in_flight", "Requests being answered.", labels=("instance",))
        queued = GaugeMetricFamily(
            "corral_requests_queued", "Requests waiting for their instance.", labels=("instance",)
        )
        state = GaugeMetricFamily("corral_instance_state", "1 for the instance's state.", labels=("instance", "state"))
        text = "Time since the last request; absent while no web process has seen one."
        idle = GaugeMetricFamily("corral_instance_idle_seconds", text, labels=("instance",))
        now = time.time()
        for instance_id, route in self._routes.items():
            working = sum(report.in_flight.get(instance_id, 0) for report in reports)
            in_flight.add_metric([route.name], working)
            lines = (report.waiting.get(instance_id) for report in reports)
            queued.add_metric([route.name], sum(line.count for line in lines if line is not None))
            for name in STATES:
                state.add_metric([route.name, name], float(name == route.state))
            used_at = max((report.last_used.get(instance_id, 0.0) for report in reports), default=0.0)
            if used_at or working:
                idle.add_metric([route.name], 0.0 if working else max(0.0, now - used_at))
        yield from (in_flight, queued, state, idle)


def _accumulate(counts: Mapping[str, int], bounds: Iterable[str]) -> list[tuple[str, float]]:
    """Buckets as Prometheus has them: each holds those before it as well."""
    names = sorted({*bounds, *counts}, key=float)
    buckets: list[tuple[str, float]] = []
    total = 0
    for name in names:
        total += counts.get(name, 0)
        buckets.append((name, total))
    return buckets
