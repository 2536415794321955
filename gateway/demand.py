"""Letting requests in: at once, after a start, or one after the other where an instance takes only so many.

The rules:

- A ready instance without `concurrency_limit` takes every request at once.
- An instance that isn't ready has a line in front of it. Whoever finds it full (`queue_limit`, over all web processes)
  is refused with 429 `queue_full`; whoever has joined it is not refused for its length or for the limit any more.
- A ready instance with `concurrency_limit` takes requests while places are free. Without one a newcomer is refused
  with 429 `concurrency_limit`, as in llama-swap; it doesn't join a line, and it doesn't overtake one, in whichever web
  process those wait who came before.
- When an instance becomes ready, those in the line are let in in the order of their arrival, as many as there are
  places; the others go on waiting, and each answer that ends lets the next one in. Each web process keeps the order of
  its own line; between processes whoever asks first has the place.
- Each request waits `queue_timeout` seconds in all, through every stop and start, and then is answered 503. It is
  answered at once when the start fails or is refused, when the instance is stopped, disabled or deleted meanwhile, and
  looked for anew when it gets another name.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable

import msgspec

from gateway.admission import Admission
from gateway.asgi import Receive
from gateway.errors import ClientGone, GatewayError
from gateway.exchange import Exchange
from gateway.limits import Limits
from gateway.loading import LoadingStream, choose_voice
from gateway.peers import Peers
from gateway.refusals import judge_route, too_many_in_work, too_many_waiting, wait_too_long
from gateway.routes import RouteTable
from gateway.structs import Principal, Route

_MOMENT_S = 0.02


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
    The future ends when the request is to look at its instance again.
    """

    __slots__ = ("admission", "arrived_at", "future", "needs_place", "principal", "seen")

    def __init__(self, principal: Principal, seen: Route, admission: Admission, *, needs_place: bool) -> None:
        self.principal = principal
        self.seen = seen
        self.admission = admission
        self.needs_place = needs_place
        self.arrived_at = time.time()
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def should_look(self, route: Route) -> bool:
        """Whether it may be let in as things are, or what it asked for may mean something else by now."""
        has_moved = (route.name, route.aliases) != (self.seen.name, self.seen.aliases)
        return has_moved or (route.is_routable and not (route.concurrency_limit and self.needs_place))


class Demand:
    """The lines of this process. `on_change` is called whenever a line grows or shrinks.

    `queues_when_busy` lets newcomers wait in front of a ready instance without a free place, instead of 429.
    """

    def __init__(
        self,
        routes: RouteTable,
        *,
        queue_limit: int,
        timeout_s: float,
        on_change: Callable[[], None],
        limits: Limits | None = None,
        queues_when_busy: bool = False,
    ) -> None:
        self.limits = limits or Limits(Peers(""))
        self._routes = routes
        self._queue_limit = queue_limit
        self._timeout_s = timeout_s
        self._on_change = on_change
        self._queues_when_busy = queues_when_busy
        self._lines: dict[int, list[_Waiter]] = {}
        self._doors: dict[int, asyncio.Task[None]] = {}
        self._numbers = itertools.count(1)
        routes.add_listener(self._settle_all)

    @property
    def has_waiting(self) -> bool:
        """Whether any request of this process waits."""
        return bool(self._lines)

    def report(self) -> dict[int, WaitingReport]:
        """The lines by instance id."""
        return {instance_id: _describe(line) for instance_id, line in self._lines.items()}

    def is_open(self, exchange: Exchange, route: Route) -> bool:
        """Whether the request may be forwarded to the route right now, without awaiting anything before."""
        if not route.is_routable:
            return False
        if not route.concurrency_limit:
            return True
        admission = exchange.admission
        return (admission is not None and admission.place == route.instance_id) or exchange.is_metadata

    async def admit(
        self, exchange: Exchange, route: Route, principal: Principal, receive: Receive, *, body: bytes = b""
    ) -> None:
        """Wait until it is worth looking at the request's instance again: then `is_open` may say yes.

        To be called in a loop with looking up the route, and only where `is_open` says no. Joining a line makes the
        supervisor start the instance. `receive` is watched for the client's departure, so the request's body must have
        been read; `body`, where it is JSON, tells whether the client wants a loading message. Raises `GatewayError`
        (403, 404, 409, 429, 503) or `ClientGone`. A place that it takes is given back by `leave`.
        """
        admission = exchange.admission
        if admission is None:
            admission = exchange.admission = Admission()
        self.leave(exchange)
        if route.is_routable:
            if await self._take_place(admission, route):
                return
            if self._routes.by_id.get(route.instance_id) != route:
                return  # it has changed while the place was asked for
            if not self._queues_when_busy and not admission.number:
                raise too_many_in_work(route)
        elif (refusal := judge_route(route, principal, route)) is not None:
            raise refusal
        if not admission.number:
            self._begin_wait(admission, route)
            if not route.is_routable and (voice := choose_voice(exchange, route, body)) is not None:
                admission.loading = LoadingStream(exchange, voice)
        waiter = _Waiter(principal, route, admission, needs_place=not exchange.is_metadata)
        await self._wait(waiter, receive)

    def leave(self, exchange: Exchange) -> None:
        """Give back what `admit` gave; for every exchange that is over."""
        instance_id = exchange.admission.place if exchange.admission is not None else 0
        if instance_id:
            self.limits.leave(exchange)
            if self.limits.peers.count_waiting(instance_id):
                self._on_change()  # they shall hear at once that a place is free

    async def _take_place(self, admission: Admission, route: Route) -> bool:
        """A place for somebody who isn't in the line, which goes first."""
        if self._lines.get(route.instance_id) or self.limits.peers.count_waiting(route.instance_id):
            return False
        if not await self.limits.take(route):
            # The answer whose end a client has just seen may be giving its place back this very moment.
            await self.limits.wait_news(_MOMENT_S)
            if self._lines.get(route.instance_id) or not await self.limits.take(route):
                return False
        admission.place = route.instance_id
        return True

    def _begin_wait(self, admission: Admission, route: Route) -> None:
        waiting = len(self._lines.get(route.instance_id, ())) + self.limits.peers.count_waiting(route.instance_id)
        if waiting >= (route.queue_limit or self._queue_limit):
            raise too_many_waiting(route, waiting)
        admission.number = next(self._numbers)
        admission.deadline_s = time.monotonic() + self._time_limit(route)

    def _time_limit(self, route: Route) -> float:
        return route.queue_timeout_s or self._timeout_s

    async def _wait(self, waiter: _Waiter, receive: Receive) -> None:
        instance_id, admission = waiter.seen.instance_id, waiter.admission
        line = self._lines.setdefault(instance_id, [])
        line.append(waiter)
        line.sort(key=lambda other: other.admission.number)  # one that waited before has kept its number
        self._on_change()
        if waiter.seen.is_routable:
            self._open_door(instance_id)
        watcher = asyncio.create_task(_watch_departure(receive, waiter.future))
        try:
            async with asyncio.timeout(max(0.0, admission.deadline_s - time.monotonic())):
                if admission.loading is not None:
                    await admission.loading.begin(lambda: self._tell_progress(waiter))
                await waiter.future
                if admission.loading is not None:
                    await admission.loading.end()
        except TimeoutError:
            raise wait_too_long(waiter.seen, self._time_limit(waiter.seen)) from None
        finally:
            self._leave_line(instance_id, waiter)
            watcher.cancel()
            if admission.loading is not None:
                await admission.loading.pause()
            await asyncio.wait((watcher,))

    def _leave_line(self, instance_id: int, waiter: _Waiter) -> None:
        line = self._lines[instance_id]
        line.remove(waiter)
        if not line:
            del self._lines[instance_id]
        self._on_change()

    def _tell_progress(self, waiter: _Waiter) -> str:
        line = self._lines.get(waiter.seen.instance_id, [])
        position = f", position {line.index(waiter) + 1} of {len(line)}" if len(line) > 1 and waiter in line else ""
        route = waiter.seen
        if route.is_routable:
            return f"waiting for a free place{position}"
        if route.state in ("stopped", "failed"):
            reason = f" ({route.reason})" if route.is_queued and route.reason else ""
            return f"waiting for its start{reason}{position}"
        return route.state + position

    def _settle_all(self) -> None:
        has_news = False
        for instance_id, line in self._lines.items():
            route = self._routes.by_id.get(instance_id)
            for waiter in line:
                if waiter.future.done():
                    continue
                if (refusal := judge_route(route, waiter.principal, waiter.seen)) is not None:
                    waiter.future.set_exception(refusal)
                elif route is None or waiter.should_look(route):
                    waiter.future.set_result(None)
                elif route != waiter.seen:
                    waiter.seen = route  # judged and let wait on
                    has_news = True
            if route is not None and route.is_routable:
                self._open_door(instance_id)
        if has_news:
            self._on_change()

    def _open_door(self, instance_id: int) -> None:
        """Let the line in, one by one, as places are free; unless that is under way."""
        door = self._doors.get(instance_id)
        if door is None or door.done():
            self._doors[instance_id] = asyncio.create_task(self._let_in(instance_id), name="gateway-door")

    async def _let_in(self, instance_id: int) -> None:
        while True:
            route = self._routes.by_id.get(instance_id)
            waiter = next((one for one in self._lines.get(instance_id, ()) if not one.future.done()), None)
            if waiter is None or route is None or not route.is_routable or not route.concurrency_limit:
                break
            if not await self.limits.take(route):
                await self.limits.wait_news()
            elif waiter.future.done() or self._routes.by_id.get(instance_id) != route:
                self.limits.give_back(instance_id)  # it has changed while the place was asked for
            else:
                waiter.admission.place = instance_id
                waiter.future.set_result(None)
        if instance_id not in self._lines:
            del self._doors[instance_id]


def _describe(line: list[_Waiter]) -> WaitingReport:
    return WaitingReport(
        count=len(line),
        since=min(waiter.arrived_at for waiter in line),
        can_evict=any(waiter.principal.can_evict for waiter in line),
        can_start=any(waiter.principal.can_start for waiter in line),
        seen_change=max(waiter.seen.state_changed_at for waiter in line),
        seen_refusal=max((waiter.seen.refused_at for waiter in line if waiter.seen.refused_at), default=None),
    )


async def _watch_departure(receive: Receive, future: asyncio.Future[None]) -> None:
    error: GatewayError | ClientGone = ClientGone()
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    except GatewayError as refusal:  # something is wrong with what came of its body meanwhile
        error = refusal
    if not future.done():
        future.set_exception(error)
