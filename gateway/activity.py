"""What this process is doing for each instance: requests in work and last use."""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway.routes import RouteTable


class Activity:
    """Counts per instance.

    `on_drain` is called when a request for an instance without a route ends, and when an instance has done its last one
    while some request waits for an instance (`has_waiting`): it may have to make room.
    """

    def __init__(
        self, routes: RouteTable, on_drain: Callable[[], None], has_waiting: Callable[[], bool] = lambda: False
    ) -> None:
        self.in_flight: dict[int, int] = {}
        self.last_used: dict[int, float] = {}
        """Seconds since the epoch at which the last counted request began or ended."""
        self.has_changed = False
        """Set by every request; the reporter takes it back."""
        self._routes = routes
        self._on_drain = on_drain
        self._has_waiting = has_waiting
        routes.add_listener(self._forget_deleted)

    def begin(self, instance_id: int, *, counts_as_use: bool) -> None:
        """A request is about to be forwarded."""
        self.in_flight[instance_id] = self.in_flight.get(instance_id, 0) + 1
        if counts_as_use:
            self.last_used[instance_id] = time.time()
        self.has_changed = True

    def end(self, instance_id: int, *, counts_as_use: bool) -> None:
        """A forwarded request has ended, however it did."""
        left = self.in_flight[instance_id] - 1
        if left:
            self.in_flight[instance_id] = left
        else:
            del self.in_flight[instance_id]
        if counts_as_use:
            self.last_used[instance_id] = time.time()
        self.has_changed = True
        route = self._routes.by_id.get(instance_id)
        if route is None or not route.is_routable or (not left and self._has_waiting()):
            self._on_drain()

    def _forget_deleted(self) -> None:
        for instance_id in self.last_used.keys() - self._routes.by_id.keys():
            del self.last_used[instance_id]
