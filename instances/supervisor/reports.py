"""What the web processes say about requests: in flight, waiting, last use. The supervisor decides by it."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psutil
import redis.asyncio
from redis.exceptions import RedisError

from instances.logs.cancellation import keep_cancellation, wait_briefly

logger = logging.getLogger(__name__)

REPORT_CHANNEL = "corral:gateway"
REPORT_KEYS = "corral:gateway:*"
SETTLE_S = 1.5
"""Every web process reports at least once a second."""
ALIVE_FOR_S = 3.0
"""A web process that has not reported for so long is taken for dead; its requests died with it."""
STALLED_FOR_S = 60.0
"""On this host a silent process is known to live on, perhaps held up; its requests are waited for so long."""
KEY_LIFETIME_S = 5.0
"""How long a report stays in Redis, as its writer says."""
SURE_AFTER_S = 5.0
"""After so long every web process has read its routes anew, whatever it could make of the instance's row."""


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
    stopping: dict[int, float] = field(default_factory=dict)
    """Instances that it knows to be stopping, and since when: what the database says, in seconds since the epoch."""
    ended: bool = False
    """Whether the process has said good-bye."""


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
            stopping={int(key): float(at) for key, at in content.get("stopping", {}).items()},
            ended=bool(content.get("ended", False)),
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

    def accept(self, data: bytes | str, *, age_s: float = 0.0) -> None:
        """Take in a report that was sent so long ago and wake whoever waits for news; drop a malformed one."""
        try:
            report = parse_report(data, self._clock() - age_s)
        except ValueError as error:
            logger.warning("dropped a report: %s", error)
            return
        if report.ended:
            self._reports.pop(report.process, None)
        else:
            self._reports[report.process] = report
        self._news.set()

    def living(self) -> list[Report]:
        """Reports of processes heard of lately; the others are forgotten."""
        now = self._clock()
        self._reports = {
            name: report
            for name, report in self._reports.items()
            if now - report.received <= ALIVE_FOR_S
            or (now - report.received <= STALLED_FOR_S and is_running_here(name))
        }
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

    def is_drained(self, instance_id: int, since: float, stopped_at: float) -> bool:
        """Whether every living web process has let go of the instance for good.

        Each must have said that it knows of this stop, which the database dates ``stopped_at`` (seconds since the
        epoch), and has no request in flight to the instance. That it doesn't mention the instance is not enough: it may
        not have known it as ready yet, be reading just now how it was before the stop, and send it requests from then
        on. Who can't make a route of the row never knows of the stop; its silence counts some seconds after monotonic
        time ``since``. A process that died is not waited for. False while not all is known.
        """
        return self.are_complete and all(
            instance_id not in report.in_flight
            and (report.stopping.get(instance_id) == stopped_at or report.received > since + SURE_AFTER_S)
            for report in self.living()
        )

    async def wait_for_news(self, timeout_s: float) -> None:
        """Return at the next report, or after the time."""
        self._news.clear()
        await wait_briefly(self._news, timeout_s)


def is_running_here(name: str) -> bool:
    """Whether a web process, by the name it reports under, is a process of this host that lives (stopped ones too)."""
    try:
        host, pid, _ = name.rsplit("-", 2)
        if host != socket.gethostname():
            return False
        return psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except (ValueError, psutil.Error):
        return False


async def read_current_reports(client: redis.asyncio.Redis, reports: GatewayReports) -> None:
    """Take in what the web processes last said, for a supervisor that has just started."""
    async for key in client.scan_iter(match=REPORT_KEYS):
        data, left_ms = await client.get(key), await client.pttl(key)
        if data and left_ms > 0:
            # What a process said before it died must not make it live longer.
            reports.accept(data, age_s=max(0.0, KEY_LIFETIME_S - left_ms / 1000))


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
