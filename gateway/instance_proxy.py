"""`/api/v1/instances/{name}/proxy/*`: an instance's own HTTP interface, for management."""

from __future__ import annotations

from urllib.parse import unquote

from gateway.errors import MANAGEMENT, GatewayError, forbidden_instance, unknown_instance
from gateway.exchange import Exchange
from gateway.metadata import asks_for_metadata
from gateway.serving import Serving

PREFIX = "/api/v1/instances/"
_RAW_PREFIX = PREFIX.encode()


def is_proxy_path(path: str) -> bool:
    """Whether a path belongs to an instance's proxy and not to the management API beside it."""
    if not path.startswith(PREFIX):
        return False
    name, _, rest = path[len(PREFIX) :].partition("/")
    return bool(name) and (rest == "proxy" or rest.startswith("proxy/"))


def split_proxy_path(raw_path: bytes) -> tuple[str, bytes]:
    """The instance's name and the path for the instance (still percent-encoded, `/` at least).

    Raises `GatewayError` 404 where the slash before that path is encoded too.
    """
    name, _, rest = raw_path.removeprefix(_RAW_PREFIX).partition(b"/")
    proxy, _, path = rest.partition(b"/")
    if unquote(proxy.decode("latin-1")) != "proxy":
        raise GatewayError(404, "not_found", f"There is nothing at {raw_path.decode('latin-1')}")
    return unquote(name.decode("latin-1")), b"/" + path


class InstanceProxyRoutes:
    """Forwards any method to a running instance; never starts one."""

    form = MANAGEMENT

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    async def serve(self, exchange: Exchange) -> None:
        """Answer one request. Raises `GatewayError` (401, 403, 404, 502, 503) and `ClientGone`."""
        principal = await self._serving.enter(exchange, self._serving.authenticator.require_management)
        name, path = split_proxy_path(exchange.raw_path)
        route = await self._serving.find(lambda: self._serving.routes.by_name.get(name))
        if route is None:
            raise unknown_instance(name)
        if not principal.may_use(route.instance_id):
            raise forbidden_instance()
        exchange.is_metadata = asks_for_metadata(exchange.method, path)
        body = await self._serving.read_for(exchange, route)
        exchange.route = route
        route = await self._serving.reach_running(exchange, principal, lambda: self._serving.routes.by_name.get(name))
        await self._serving.forward(exchange, route, path, body)
