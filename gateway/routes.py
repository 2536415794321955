"""The routes in memory: replaced as a whole, read without a lock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import unquote

from gateway.errors import GatewayError
from gateway.structs import Principal, Route, Snapshot

_MAX_NAME_SEGMENTS = 16
"""Parts between slashes of the longest name that is looked for in a path."""


class RouteTable:
    """The current snapshot with its indexes. Used from one event loop only."""

    def __init__(self) -> None:
        self.by_name: dict[str, Route] = {}
        """Instances by their own name."""
        self.by_any_name: dict[str, Route] = {}
        """Instances by their name and by each alias."""
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
        self.by_any_name = {alias: route for route in snapshot.routes for alias in route.aliases} | self.by_name
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
        route = self.by_any_name.get(model)
        if route is not None:
            return route, route.served_model
        name, slash, inner = model.partition("/")
        if slash and inner and (route := self.by_any_name.get(name)) is not None:
            return route, inner
        return None

    def split_path(self, raw_path: bytes) -> tuple[Route, str, bytes] | None:
        """The instance that a path begins with, its name as called, and the rest of the path from its slash on.

        Names may contain slashes, plain or percent-encoded; the longest one counts (llama-swap's reference, 1.1). The
        rest stays percent-encoded.
        """
        segments = raw_path.split(b"/", _MAX_NAME_SEGMENTS)
        if len(segments) > _MAX_NAME_SEGMENTS:
            segments.pop()
        for count in range(len(segments), 0, -1):
            head = b"/".join(segments[:count])
            name = unquote(head.decode("latin-1"))
            route = self.by_any_name.get(name)
            if route is not None:
                return route, name, raw_path[len(head) :]
        return None

    def find_only_ready(self, principal: Principal) -> Route | None:
        """The one instance that is ready and that the principal may use; None when there is none or a choice."""
        found: Route | None = None
        for route in self.by_id.values():
            if route.is_routable and principal.may_use(route.instance_id):
                if found is not None:
                    return None
                found = route
        return found

    def list_ready(self, principal: Principal) -> list[str]:
        """The names of the instances that are ready and that the principal may use."""
        usable = (route for route in self.by_id.values() if principal.may_use(route.instance_id))
        return sorted(route.name for route in usable if route.is_routable)
