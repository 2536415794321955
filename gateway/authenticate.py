"""Who a request comes from, and whether they may come in by this door."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from gateway.asgi import Headers, Scope, find_header
from gateway.config import GatewayConfig
from gateway.errors import GatewayError, invalid_key, missing_key
from gateway.exchange import Exchange
from gateway.keys import KeyCache, read_credential
from gateway.structs import ANONYMOUS, Principal

SessionLookUp = Callable[[Scope], Awaitable[Principal | None]]
_SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))


class Authenticator:
    """Turns credentials into principals. `find_session` finds the principal of a signed-in page, or None."""

    def __init__(self, config: GatewayConfig, keys: KeyCache, find_session: SessionLookUp | None) -> None:
        self._config = config
        self._keys = keys
        self._find_session = find_session

    async def require_inference(self, exchange: Exchange) -> Principal:
        """The principal of a request to `/v1`: any valid key. Raises `KeyRejected` 401."""
        if not self._config.require_inference_auth:
            return ANONYMOUS
        credential = read_credential(exchange.headers, exchange.query)
        if credential is None:
            raise missing_key()
        principal = await self._keys.find_principal(credential)
        if principal is None:
            raise invalid_key()
        return principal

    async def require_management(self, exchange: Exchange) -> Principal:
        """The principal of a request to a management route: a management key, or a signed-in page of this portal.

        Raises `KeyRejected` 401, or `GatewayError` 403 when another site uses the visitor's session for a change.
        """
        if not self._config.require_management_auth:
            return ANONYMOUS
        credential = read_credential(exchange.headers, exchange.query)
        if credential is not None:
            principal = await self._keys.find_principal(credential)
            if principal is None or principal.kind != "management":
                raise invalid_key()
            return principal
        session = await self._find_session(exchange.scope) if self._find_session is not None else None
        if session is None:
            raise missing_key()
        if exchange.method not in _SAFE_METHODS and not _is_same_origin(exchange.headers):
            raise GatewayError(403, "cross_site_request", "A signed-in page may send this only from the portal itself")
        return session


def _is_same_origin(headers: Headers) -> bool:
    origin, host = find_header(headers, b"origin"), find_header(headers, b"host")
    return origin is not None and host is not None and origin.partition(b"://")[2].lower() == host.lower()
