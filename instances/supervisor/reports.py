"""What the web processes say about requests: in flight, waiting, last use. The supervisor decides by it."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError

from instances.logs.cancellation import keep_cancellation

logger = logging.getLogger(__name__)

REPORT_CHANNEL = "corral:gateway"
REPORT_KEYS = "corral:gateway:*"
SETTLE_S = 1.5
"""Every web process reports at least once a second."""
ALIVE_FOR_S = 3.0
"""A web process that has not reported for so long is taken for dead; its requests died with it."""


@dataclass(frozen=True)
class Waiting:
    """Requests that wait for an instance in one web process.

    ``since``: when the first came, seconds since the epoch; ``arrived`` likewise in monotonic seconds of this process,
    which no difference of clocks falsifies. ``seen_change`` and ``seen_refusal`` are the moments of the
    instance's last change of state and of its last refusal, as the web process knew them.
    """

    count: int
    since: float
    seen_change: float = 0.0
    seen_refusal: float | None = None
    can_start: bool = True
    can_evict: bool = True
    arrived: float = 0.0


@dataclass(frozen=True)
class Report:
    """One web process's word. An instance it would still route to is in ``in_flight`` even with 0.

    ``last_used`` in seconds since the epoch, ``used`` the same in monotonic seconds of this process.
    """

    process: str
    received: float
    in_flight: dict[int, int] = field(default_factory=dict)
    last_used: dict[int, float] = field(default_factory=dict)
    used: dict[int, float] = field(default_factory=dict)
    waiting: dict[int, Waiting] = field(default_factory=dict)


def parse_report(data: bytes | str, received: float) -> Report:
    """Read a report; raise ValueError when it isn't one."""
    try:
        content: dict[str, Any] = json.loads(data)
        sent = float(content.get("sent", time.time()))
        last_used = {int(key): float(at) for key, at in content.get("last_used", {}).items()}
        return Report(
            process=str(content["process"]),
            received=received,
            in_flight={int(key): int(count) for key, count in content.get("in_flight", {}).items()},
            last_used=last_used,
            used={key: received - max(0.0, sent - at) for key, at in last_used.items()},
            waiting={
                int(key): Waiting(
                    count=int(entry["count"]),
                    since=float(entry["since"]),
                    seen_change=float(entry.get("seen_change", 0.0)),
                    seen_refusal=entry.get("seen_refusal"),
                    can_start=bool(entry.get("can_start", True)),
                    can_evict=bool(entry.get("can_evict", True)),
                    arrived=received - max(0.0, sent - float(entry["since"])),
                )
                for key, entry in content.get("waiting", {}).items()
            },
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"not a gateway report: {error}") from error


class GatewayReports:
    """The newest report of every living web process. Times of arrival are monotonic seconds of this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.watched: frozenset[int] = frozenset()
        """Instances for whose last request to end somebody waits."""
        self._clock = clock
        self._reports: dict[str, Report] = {}
        self._news = asyncio.Event()
        self._connected_at: float | None = None

    def connected(self, connected: bool) -> None:
        """Note that Redis was reached or lost; while it is lost, nothing is known about requests."""
        self._connected_at = self._clock() if connected else None

    @property
    def are_complete(self) -> bool:
        """Whether every living web process has had the time to report since Redis was reached."""
        return self._connected_at is not None and self._clock() - self._connected_at > SETTLE_S

    def accept(self, data: bytes | str) -> None:
        """Take in a report and wake whoever waits for news; a malformed one is logged and dropped."""
        try:
            report = parse_report(data, self._clock())
        except ValueError as error:
            logger.warning("dropped a report: %s", error)
            return
        self._reports[report.process] = report
        self._news.set()

    def living(self) -> list[Report]:
        """Reports of processes heard of lately; the others are forgotten."""
        limit = self._clock() - ALIVE_FOR_S
        self._reports = {name: report for name, report in self._reports.items() if report.received >= limit}
        return list(self._reports.values())

    def in_flight(self, instance_id: int) -> int:
        """Requests being answered by the instance over all web processes."""
        return sum(report.in_flight.get(instance_id, 0) for report in self.living())

    def waiting(self, instance_id: int) -> list[Waiting]:
        """Who waits for the instance, by web process."""
        return [report.waiting[instance_id] for report in self.living() if instance_id in report.waiting]

    def last_used(self, instance_id: int) -> float:
        """Seconds since the epoch of the last request, 0 when none is known."""
        return max((report.last_used.get(instance_id, 0.0) for report in self.living()), default=0.0)

    def used_at(self, instance_id: int) -> float:
        """Monotonic time of the last request's begin or end, 0 when none is known."""
        return max((report.used.get(instance_id, 0.0) for report in self.living()), default=0.0)

    def is_handed_over(self, instance_id: int, ready_since: float) -> bool:
        """Whether every living web process sends requests to the instance, which became ready at ``ready_since``."""
        knows = (report.received > ready_since and instance_id in report.in_flight for report in self.living())
        return all(knows)

    def is_drained(self, instance_id: int, since: float) -> bool:
        """Whether every living web process has let go of the instance.

        Each must have said, after monotonic time ``since``, that it neither routes to the instance nor has a request in
        flight to it. A process that died is not waited for. False while not all is known.
        """
        let_go = (report.received > since and instance_id not in report.in_flight for report in self.living())
        return self.are_complete and all(let_go)

    async def wait_for_news(self, timeout_s: float) -> None:
        """Return at the next report, or after the time."""
        self._news.clear()
        try:
            await asyncio.wait_for(self._news.wait(), timeout_s)
        except TimeoutError:
            return


async def read_current_reports(client: redis.asyncio.Redis, reports: GatewayReports) -> None:
    """Take in what the web processes last said, for a supervisor that has just started."""
    async for key in client.scan_iter(match=REPORT_KEYS):
        data = await client.get(key)
        if data:
            reports.accept(data)


async def listen(
    client: redis.asyncio.Redis, reports: GatewayReports, wake_channel: str, wake: Callable[[], None]
) -> None:
    """Follow reports and nudges for ever; call ``wake`` for both. Survives Redis going away: it subscribes again."""
    while True:
        try:
            async with client.pubsub(ignore_subscribe_messages=True) as pubsub:
                await keep_cancellation(pubsub.subscribe(REPORT_CHANNEL, wake_channel))
                await keep_cancellation(read_current_reports(client, reports))
                reports.connected(True)
                wake()
                while True:
                    message = await keep_cancellation(pubsub.get_message(timeout=5))
                    if message is None:
                        continue
                    if message["channel"] == REPORT_CHANNEL.encode():
                        before = demand_of(reports), idle_of(reports)
                        reports.accept(message["data"])
                        if (demand_of(reports), idle_of(reports)) != before:
                            wake()
                    else:
                        wake()
        except (RedisError, OSError) as error:
            reports.connected(False)
            logger.warning("lost Redis (%s); subscribing again in a second", error)
            await asyncio.sleep(1)


def demand_of(reports: GatewayReports) -> set[tuple[int, float, float | None]]:
    """Return who is waited for, and what those who wait know: a change of either may let a start begin."""
    return {
        (instance_id, entry.seen_change, entry.seen_refusal)
        for report in reports.living()
        for instance_id, entry in report.waiting.items()
    }


def idle_of(reports: GatewayReports) -> set[int]:
    """Return which of the instances that somebody waits for have no request in work."""
    return {instance_id for instance_id in reports.watched if reports.in_flight(instance_id) == 0}
