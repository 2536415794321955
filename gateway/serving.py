"""What every route does once it knows which instance is meant: rights, readiness, forwarding."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.asgi import Message, Receive
from gateway.authenticate import Authenticator
from gateway.body import MemoryBudget, RequestBody, begin_body, hold_body, read_body
from gateway.browsers import restrict_engine
from gateway.demand import Demand
from gateway.errors import ClientGone, GatewayError, forbidden_instance
from gateway.exchange import Exchange
from gateway.forward import Forwarder
from gateway.guards import guard_body, must_be_guarded
from gateway.keys import drop_query_key
from gateway.named import KeepReading, NamedBody, read_named_body
from gateway.quotas import QuotaBook
from gateway.routes import RouteTable
from gateway.structs import Principal, Route
from gateway.urlencoded import replace_form_model

T = TypeVar("T")
F = TypeVar("F", bound="tuple[Route, *tuple[object, ...]]")
Authenticate = Callable[[Exchange], Awaitable[Principal]]


class Serving:
    """Shared by all routes of one gateway."""

    def __init__(
        self,
        authenticator: Authenticator,
        routes: RouteTable,
        demand: Demand,
        forwarder: Forwarder,
        *,
        look_again: Callable[[], Awaitable[None]],
        max_body_bytes: int,
        max_upload_bytes: int,
        spool_folder: str | None,
        body_memory_bytes: int,
        quotas: QuotaBook,
    ) -> None:
        self.authenticator = authenticator
        self.routes = routes
        self.demand = demand
        self.forwarder = forwarder
        self._max_body_bytes = max_body_bytes
        self._max_upload_bytes = max_upload_bytes
        self._spool_folder = spool_folder
        self._budget = MemoryBudget(body_memory_bytes)
        self._look_again = look_again
        self._quotas = quotas

    async def identify(self, exchange: Exchange, authenticate: Authenticate) -> Principal:
        """Who sent a request that reaches no instance, so that no limit of use concerns it.

        Raises `GatewayError` (401, 403, 429 for who tries keys) and 503 while nothing is known yet.
        """
        principal = exchange.principal = await authenticate(exchange)
        self.routes.require_loaded()
        return principal

    async def enter(self, exchange: Exchange, authenticate: Authenticate) -> Principal:
        """Who sent a request to an instance, which is counted. Raises as `identify` and `count` do."""
        principal = await self.identify(exchange, authenticate)
        await self.count(exchange, principal)
        return principal

    async def count(self, exchange: Exchange, principal: Principal) -> None:
        """Count a request to an instance. Raises `GatewayError` 429, and 503 while nobody can tell what is used."""
        if principal.quotas:
            await self._quotas.admit(exchange, principal)

    async def read_named(self, exchange: Exchange) -> NamedBody:
        """The body with the model it names, read as far as needed. Raises as `read_named_body` does."""
        return await read_named_body(
            exchange,
            limit_bytes=self._max_body_bytes,
            upload_limit_bytes=self._max_upload_bytes,
            spool_folder=self._spool_folder,
            budget=self._budget,
        )

    async def read_for(self, exchange: Exchange, route: Route) -> RequestBody:
        """The body for an instance that is known already: as it comes, unless the engine must be guarded."""
        if must_be_guarded(route):
            return await self.read_whole(exchange)
        return await begin_body(exchange)

    async def read_whole(self, exchange: Exchange) -> RequestBody:
        """The complete body. Raises `GatewayError` 413 and 503, and `ClientGone`."""
        return hold_body(await read_body(exchange, self._max_body_bytes, self._budget))

    async def look_again(self) -> None:
        """Read the routes anew, after something was changed that the next request must see."""
        await self._look_again()

    async def find(self, look: Callable[[], T | None]) -> T | None:
        """What `look` finds among the routes; before it finds nothing, the routes are read once more."""
        found = look()
        if found is None:
            await self._look_again()
            found = look()
        return found

    async def reach(
        self,
        exchange: Exchange,
        authenticate: Authenticate,
        look: Callable[[], F | None],
        unknown: Callable[[], GatewayError],
        *,
        keep_reading: KeepReading | None = None,
        body: bytes = b"",
    ) -> F:
        """What `look` finds, a route and more, once its instance is ready, may be used and takes the request.

        Forward without awaiting anything in between.

        `exchange.principal` must be set. While the instance starts, `keep_reading` watches the client; without it the
        body must have been read. `body`, where it is JSON, says whether the client streams and so can hear of the
        loading. Raises `GatewayError` and `ClientGone`.
        """
        while True:
            found = await self.find(look)
            if found is None:
                raise unknown()
            route = exchange.route = found[0]
            principal = exchange.principal
            if principal is None or not principal.may_use(route.instance_id):
                raise forbidden_instance()
            if self.demand.is_open(exchange, route):
                return found
            began = time.monotonic()
            try:
                await self.demand.admit(exchange, route, principal, _watch(exchange, keep_reading), body=body)
            finally:
                exchange.queued_s += time.monotonic() - began
            # Keys and routes may have changed during the wait.
            exchange.principal = await authenticate(exchange)

    async def reach_running(self, exchange: Exchange, principal: Principal, look: Callable[[], Route | None]) -> Route:
        """What `look` finds if it runs, for requests that start nothing. Forward without awaiting anything in between.

        The request's body must have been begun: the instance may stop while it comes. Raises `GatewayError` 503 when
        the instance isn't running and 429 when it has no place for the request.
        """
        while True:
            route = look()
            if route is not None:
                exchange.route = route
            if route is None or not route.is_routable:
                raise GatewayError(503, "instance_not_running", "Instance is not running")
            if self.demand.is_open(exchange, route):
                return route
            await self.demand.admit(exchange, route, principal, exchange.receive)

    async def forward(
        self, exchange: Exchange, route: Route, path: bytes, body: RequestBody, *, model: str | None = None
    ) -> None:
        """Forward to `path` of the instance, the client's query without its key, and with `model` if it names one."""
        exchange.extra_headers += restrict_engine(exchange.scope, exchange.principal)
        query = write_query(exchange.query, model)
        await self.forwarder.forward(exchange, route, path, query, guard_body(route, body))


def write_query(query: bytes, model: str | None) -> bytes:
    """The query for the instance, without the client's key; the model that it names becomes this one, unless None."""
    query = drop_query_key(query)
    return query if model is None else replace_form_model(query, model)


def _watch(exchange: Exchange, keep_reading: KeepReading | None) -> Receive:
    """A `receive` that returns when the client has gone; what comes of its body meanwhile is kept."""
    if keep_reading is None:
        return exchange.receive

    async def receive() -> Message:
        try:
            await keep_reading()
        except ClientGone:
            return {"type": "http.disconnect"}

    return receive
