"""Who a request comes from, and whether they may come in by this door."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from gateway.asgi import Headers, Scope, find_header
from gateway.brake import Brake
from gateway.config import GatewayConfig
from gateway.errors import GatewayError, invalid_key, missing_key
from gateway.exchange import Exchange
from gateway.keys import KeyCache, read_credential
from gateway.structs import ANONYMOUS, Principal

SessionLookUp = Callable[[Scope], Awaitable[Principal | None]]
_SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))


class Authenticator:
    """Turns credentials into principals. `find_session` finds the principal of a signed-in page, or None."""

    def __init__(
        self, config: GatewayConfig, keys: KeyCache, find_session: SessionLookUp | None, brake: Brake | None = None
    ) -> None:
        self._config = config
        self._keys = keys
        self._find_session = find_session
        self._brake = brake or Brake()

    async def require_inference(self, exchange: Exchange) -> Principal:
        """The principal of a request to a model: any valid key, or a signed-in page of this portal.

        Raises `KeyRejected` 401, or `GatewayError` 403 when another site uses the visitor's session, and 429 for those
        who try keys.
        """
        if not self._config.require_inference_auth:
            return ANONYMOUS
        credential = read_credential(exchange.headers, exchange.query)
        if credential is None:
            return await self._require_session(exchange)
        return await self._require_key(exchange, credential)

    async def require_management(self, exchange: Exchange) -> Principal:
        """The principal of a request to a management route: a management key, or a signed-in page of this portal.

        Raises as `require_inference` does; an inference key is refused like an unknown one.
        """
        if not self._config.require_management_auth:
            return ANONYMOUS
        credential = read_credential(exchange.headers, exchange.query)
        if credential is None:
            return await self._require_session(exchange)
        principal = await self._require_key(exchange, credential)
        if principal.kind != "management":
            raise invalid_key()
        return principal

    async def _require_key(self, exchange: Exchange, credential: bytes) -> Principal:
        principal = await self._keys.find_principal(credential)
        if principal is None:
            client = exchange.scope.get("client")
            await self._brake.hold_answer(client[0] if client else "")
            raise invalid_key()
        return principal

    async def _require_session(self, exchange: Exchange) -> Principal:
        if self._find_session is None or find_header(exchange.headers, b"cookie") is None:
            raise missing_key()
        session = await self._find_session(exchange.scope)
        if session is None:
            raise missing_key()
        if is_from_another_site(exchange):
            raise GatewayError(403, "cross_site_request", "A signed-in page may send this only from the portal itself")
        return session


def is_from_another_site(exchange: Exchange) -> bool:
    """Whether a browser sent the request for a page that isn't the portal's own.

    What changes something must name the portal as its origin; for the rest the browser's word is enough (Fetch
    Metadata, `Sec-Fetch-Site`).
    """
    headers = exchange.headers
    if exchange.method not in _SAFE_METHODS or exchange.scope["type"] == "websocket":
        return not _is_same_origin(headers)
    return find_header(headers, b"sec-fetch-site") in (b"cross-site", b"same-site")


def _is_same_origin(headers: Headers) -> bool:
    origin, host = find_header(headers, b"origin"), find_header(headers, b"host")
    return origin is not None and host is not None and origin.partition(b"://")[2].lower() == host.lower()
