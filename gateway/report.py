"""The report by which the supervisor knows what this process is doing."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Coroutine
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.activity import Activity
from gateway.broker import end_task, wait_within
from gateway.demand import Demand, WaitingReport
from gateway.peers import CHANNEL, KEY_PREFIX
from gateway.routes import RouteTable

logger = logging.getLogger(__name__)

KEY_LIFETIME_S = 5
HEARTBEAT_S = 1.0
COUNT_INTERVAL_S = 0.2


class GatewayReport(msgspec.Struct, frozen=True):
    """One process's report, keyed by instance id.

    A routable instance is in `in_flight` even when idle; one without a route only while requests still run. An instance
    that is in `stopping` and not in `in_flight` is let go for good: the routes are never replaced by older ones. Mere
    absence says less, since routes that are a moment old may still become those in which the instance was ready.
    """

    process: str
    sent: float
    in_flight: dict[int, int]
    last_used: dict[int, float]
    waiting: dict[int, WaitingReport]
    stopping: dict[int, float] = {}
    """Instances known to be stopping, with the moment at which they began to (seconds since the epoch, as the database
    has it)."""
    in_work: dict[int, int] = {}
    """Places held at instances with a `concurrency_limit`."""
    ended: bool = False
    """Whether this is the process's last word."""


def name_process() -> str:
    """A name no other process has, now or later."""
    return f"{socket.gethostname()}-{os.getpid()}-{os.urandom(4).hex()}"


class Reporter:
    """Publishes the report: at once after `publish_now`, within 0.2 s of a request, and every second regardless."""

    def __init__(self, redis: Redis, process: str, routes: RouteTable) -> None:
        self.process = process
        self._redis = redis
        self._routes = routes
        self._wanted = asyncio.Event()
        self.is_failing = False
        """Whether Redis did not take the last report: a second later at most than it went away."""

    async def ping(self) -> bool:
        """Whether Redis answers."""
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                return bool(await self._redis.ping())
        except (RedisError, OSError, TimeoutError):
            return False

    def publish_now(self) -> None:
        """Something changed that somebody may be waiting for."""
        self._wanted.set()

    async def announce(self) -> None:
        """Tell that this process lives, before it knows any route; without success if Redis is away."""
        await self._publish(self._build_empty(ended=False))

    def build_report(self, activity: Activity, demand: Demand) -> GatewayReport:
        """The report of this moment."""
        routes = self._routes.by_id.values()
        in_flight = {route.instance_id: 0 for route in routes if route.is_routable}
        return GatewayReport(
            process=self.process,
            sent=time.time(),
            in_flight=in_flight | activity.in_flight,
            last_used=dict(activity.last_used),
            waiting=demand.report(),
            stopping={route.instance_id: route.state_changed_at for route in routes if route.state == "stopping"},
            in_work=demand.limits.report(),
        )

    async def run(self, activity: Activity, demand: Demand) -> None:
        """Publish, and listen to the other processes, until cancelled; says good-bye and removes the key."""
        limits = asyncio.create_task(demand.limits.run(), name="gateway-limits")
        next_heartbeat = time.monotonic()
        try:
            while True:
                if self._wanted.is_set() or activity.has_changed or time.monotonic() >= next_heartbeat:
                    self._wanted.clear()
                    activity.has_changed = False
                    next_heartbeat = time.monotonic() + HEARTBEAT_S
                    await self._publish(self.build_report(activity, demand))
                await wait_for_event(self._wanted, COUNT_INTERVAL_S)
        finally:
            await end_task(limits)
            await self._publish(self._build_empty(ended=True))

    async def _publish(self, report: GatewayReport) -> None:
        await self._attempt(self._write(report))

    async def _write(self, report: GatewayReport) -> None:
        body = msgspec.json.encode(report)
        async with self._redis.pipeline(transaction=False) as pipeline:
            if report.ended:
                pipeline.delete(KEY_PREFIX + self.process)
            else:
                pipeline.set(KEY_PREFIX + self.process, body, ex=KEY_LIFETIME_S)
            pipeline.publish(CHANNEL, body)
            await pipeline.execute()

    def _build_empty(self, *, ended: bool) -> GatewayReport:
        return GatewayReport(
            process=self.process, sent=time.time(), in_flight={}, last_used={}, waiting={}, ended=ended
        )

    async def _attempt(self, writing: Coroutine[Any, Any, None]) -> None:
        try:
            await wait_within(asyncio.create_task(writing), HEARTBEAT_S)
        except (RedisError, OSError, TimeoutError) as error:
            if not self.is_failing:
                logger.warning("The gateway can't report to Redis; it goes on and keeps trying: %s", error)
            self.is_failing = True
        else:
            if self.is_failing:
                logger.info("The gateway reports to Redis again")
            self.is_failing = False


async def wait_for_event(event: asyncio.Event, timeout_s: float) -> None:
    """Return when the event is set, or after `timeout_s`."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
