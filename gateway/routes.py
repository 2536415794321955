"""The routes in memory: replaced as a whole, read without a lock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.errors import GatewayError
from gateway.structs import Route, Snapshot


class RouteTable:
    """The current snapshot with its indexes. Used from one event loop only."""

    def __init__(self) -> None:
        self.by_name: dict[str, Route] = {}
        self.by_id: dict[int, Route] = {}
        self.is_loaded = False
        """False until the first snapshot has come."""
        self._snapshot = Snapshot()
        self._changed = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []

    def add_listener(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change, before anything else runs on the loop. It must not raise."""
        self._listeners.append(listener)

    def replace(self, snapshot: Snapshot) -> bool:
        """Make `snapshot` the current one. Returns whether it differs from the one before."""
        if self.is_loaded and snapshot == self._snapshot:
            return False
        self._snapshot = snapshot
        self.by_name = {route.name: route for route in snapshot.routes}
        self.by_id = {route.instance_id: route for route in snapshot.routes}
        self.is_loaded = True
        waiters, self._changed = self._changed, asyncio.Event()
        waiters.set()
        for listener in self._listeners:
            listener()
        return True

    def require_loaded(self) -> None:
        """Raise `GatewayError` 503 as long as no snapshot has come."""
        if not self.is_loaded:
            message = "The instances are not known yet, their database can't be read; try again"
            raise GatewayError(503, "gateway_starting", message, retry_after_s=2)

    async def wait_change(self) -> None:
        """Return after the next change."""
        await self._changed.wait()

    def resolve_model(self, model: str) -> tuple[Route, str | None] | None:
        """The route for the `model` of a request, and the model to ask it for (None: as it came).

        `instance/model` names a model inside an instance (llama-server's router mode) unless an instance has the whole
        name.
        """
        route = self.by_name.get(model)
        if route is not None:
            return route, route.served_model
        name, slash, inner = model.partition("/")
        if slash and inner and (route := self.by_name.get(name)) is not None:
            return route, inner
        return None
