"""`/api/v1/instances/{name}/proxy/*`: an instance's own HTTP interface, for management."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import unquote

from gateway.authenticate import Authenticator
from gateway.body import begin_body
from gateway.errors import GatewayError, forbidden_instance, unknown_instance
from gateway.exchange import Exchange
from gateway.forward import Forwarder
from gateway.keys import drop_query_key
from gateway.routes import RouteTable

PREFIX = "/api/v1/instances/"
_RAW_PREFIX = PREFIX.encode()


def is_proxy_path(path: str) -> bool:
    """Whether a path belongs to an instance's proxy and not to the management API beside it."""
    if not path.startswith(PREFIX):
        return False
    name, _, rest = path[len(PREFIX) :].partition("/")
    return bool(name) and (rest == "proxy" or rest.startswith("proxy/"))


def split_proxy_path(raw_path: bytes) -> tuple[str, bytes]:
    """The instance's name and the path for the instance (still percent-encoded, `/` at least)."""
    name, _, rest = raw_path.removeprefix(_RAW_PREFIX).partition(b"/")
    return unquote(name.decode("latin-1")), rest.removeprefix(b"proxy") or b"/"


UNTRUSTED = [(b"content-security-policy", b"sandbox"), (b"x-content-type-options", b"nosniff")]
"""What an engine answers to a signed-in browser must not act as a page of the portal: no scripts, no guessed types."""


class InstanceProxyRoutes:
    """Forwards any method to a running instance; never starts one."""

    def __init__(
        self,
        authenticator: Authenticator,
        routes: RouteTable,
        forwarder: Forwarder,
        *,
        look_again: Callable[[], Awaitable[None]],
    ) -> None:
        self._authenticator = authenticator
        self._routes = routes
        self._forwarder = forwarder
        self._look_again = look_again

    async def serve(self, exchange: Exchange) -> None:
        """Answer one request. Raises `GatewayError` (401, 403, 404, 502, 503) and `ClientGone`."""
        principal = exchange.principal = await self._authenticator.require_management(exchange)
        self._routes.require_loaded()
        name, path = split_proxy_path(exchange.raw_path)
        route = self._routes.by_name.get(name)
        if route is None:
            await self._look_again()
            route = self._routes.by_name.get(name)
        if route is None:
            raise unknown_instance(name)
        if not principal.may_use(route.instance_id):
            raise forbidden_instance()
        body = await begin_body(exchange)
        # The instance may have stopped while the body came.
        route = self._routes.by_name.get(name, route)
        if not route.is_routable:
            exchange.route = route
            raise GatewayError(503, "instance_not_running", "Instance is not running")
        if principal.kind == "session":
            exchange.extra_headers += UNTRUSTED
        await self._forwarder.forward(exchange, route, path, drop_query_key(exchange.query), body)
