"""Requests that wait for their instance: one line per instance, which the supervisor sees through the report."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from gateway.asgi import Receive
from gateway.errors import ClientGone, GatewayError, unknown_instance
from gateway.routes import RouteTable
from gateway.structs import Principal, Route

_REFUSED_RETRY_S = 5
_QUEUE_RETRY_S = 5
_TIMEOUT_RETRY_S = 10


class WaitingReport(msgspec.Struct, frozen=True):
    """What the supervisor reads about one line."""

    count: int
    since: float
    """When the first of them came, seconds since the epoch."""
    can_evict: bool
    can_start: bool
    seen_change: float
    """When the instance's state last changed, as far as they know: what happened later they have not been told yet."""
    seen_refusal: float | None
    """When a start was last refused, likewise."""


class _Waiter:
    """One waiting request.

    `seen` is the route as it was when this request was last allowed to go on waiting: only what differs from it is new.
    """

    __slots__ = ("arrived_at", "future", "principal", "seen")

    def __init__(self, principal: Principal, seen: Route) -> None:
        self.principal = principal
        self.seen = seen
        self.arrived_at = time.time()
        self.future: asyncio.Future[Route] = asyncio.get_running_loop().create_future()


def judge_route(route: Route | None, principal: Principal, seen: Route) -> GatewayError | None:
    """Why a request that arrived when the route looked like `seen` can't be served any more; None while it may wait.

    What happened since is told by comparing with `seen`, not with a clock: the clocks of nodes differ.
    """
    if route is None:
        return unknown_instance(seen.name)
    if route.disabled:
        return GatewayError(503, "instance_disabled", f"Instance {route.name} is disabled; an operator can enable it")
    return _find_refusal(route, seen) or _find_bar(route, principal)


def _find_refusal(route: Route, seen: Route) -> GatewayError | None:
    """What went wrong since the route looked like `seen`."""
    if route.refused_at is not None and route.refused_at != seen.refused_at:
        reason = route.reason or "the limit of running instances is reached"
        message = f"Instance {route.name} can't be started now: {reason}"
        return GatewayError(409, "max_instances_reached", message, retry_after_s=_REFUSED_RETRY_S)
    if (route.state, route.state_changed_at) == (seen.state, seen.state_changed_at):
        return None
    # Between two attempts as well: whoever waited through a failed start is told at once why it failed.
    if route.state in ("failed", "backoff"):
        reason = route.reason or "its process ended before it was ready"
        return GatewayError(503, "instance_start_failed", f"Instance {route.name} failed to start: {reason}")
    if seen.state == "starting" and route.state in ("stopping", "stopped") and not route.is_wanted:
        message = f"Instance {route.name} was stopped while it was starting"
        return GatewayError(503, "instance_not_running", message)
    return None


def _find_bar(route: Route, principal: Principal) -> GatewayError | None:
    """Why a request of this principal may not start the instance, if it would have to."""
    if route.state not in ("stopped", "failed"):
        return None
    if not principal.can_start:
        message = f"Instance {route.name} is not running and this key may not start instances"
        return GatewayError(403, "permission_denied", message)
    if not route.on_demand_start:
        message = f"Instance {route.name} is not running and on-demand start is not enabled for it; start it first"
        return GatewayError(503, "instance_not_running", message)
    return None


class Demand:
    """The lines of this process. `on_change` is called whenever a line grows or shrinks."""

    def __init__(
        self, routes: RouteTable, *, queue_limit: int, timeout_s: float, on_change: Callable[[], None]
    ) -> None:
        self._routes = routes
        self._queue_limit = queue_limit
        self._timeout_s = timeout_s
        self._on_change = on_change
        self._lines: dict[int, dict[_Waiter, None]] = {}
        routes.add_listener(self._settle_all)

    def report(self) -> dict[int, WaitingReport]:
        """The lines by instance id."""
        return {instance_id: _describe(line) for instance_id, line in self._lines.items()}

    async def wait_ready(self, route: Route, principal: Principal, receive: Receive) -> Route:
        """The route once its instance is ready; at once when it is.

        Joining the line makes the supervisor start the instance. The request's body must have been read: `receive` is
        watched for the client's departure. Raises `GatewayError` (403, 404, 409, 429, 503) or `ClientGone`.
        """
        if route.is_routable:
            return route
        refusal = judge_route(route, principal, route)
        if refusal is not None:
            raise refusal
        length = len(self._lines.get(route.instance_id, ()))
        if length >= self._queue_limit:
            message = f"{length} requests already wait for instance {route.name}"
            raise GatewayError(429, "queue_full", message, retry_after_s=_QUEUE_RETRY_S)
        waiter = _Waiter(principal, route)
        self._lines.setdefault(route.instance_id, {})[waiter] = None
        self._on_change()
        watcher = asyncio.create_task(_watch_departure(receive, waiter.future))
        try:
            async with asyncio.timeout(self._timeout_s):
                return await waiter.future
        except TimeoutError:
            message = f"Instance {route.name} was not ready within {self._timeout_s:g} seconds"
            raise GatewayError(503, "instance_start_timeout", message, retry_after_s=_TIMEOUT_RETRY_S) from None
        finally:
            self._leave(route.instance_id, waiter)
            watcher.cancel()
            await asyncio.wait((watcher,))

    def _leave(self, instance_id: int, waiter: _Waiter) -> None:
        line = self._lines[instance_id]
        del line[waiter]
        if not line:
            del self._lines[instance_id]
        self._on_change()

    def _settle_all(self) -> None:
        has_news = False
        for instance_id, line in self._lines.items():
            route = self._routes.by_id.get(instance_id)
            for waiter in line:
                if waiter.future.done():
                    continue
                if route is not None and route.is_routable:
                    waiter.future.set_result(route)
                elif (refusal := judge_route(route, waiter.principal, waiter.seen)) is not None:
                    waiter.future.set_exception(refusal)
                elif route is not None and route != waiter.seen:
                    waiter.seen = route  # judged and let wait on
                    has_news = True
        if has_news:
            self._on_change()


def _describe(line: dict[_Waiter, None]) -> WaitingReport:
    return WaitingReport(
        count=len(line),
        since=min(waiter.arrived_at for waiter in line),
        can_evict=any(waiter.principal.can_evict for waiter in line),
        can_start=any(waiter.principal.can_start for waiter in line),
        seen_change=max(waiter.seen.state_changed_at for waiter in line),
        seen_refusal=max((waiter.seen.refused_at for waiter in line if waiter.seen.refused_at), default=None),
    )


async def _watch_departure(receive: Receive, future: asyncio.Future[Route]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    if not future.done():
        future.set_exception(ClientGone())
