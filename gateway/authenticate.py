"""Who a request comes from, and whether they may come in by this door."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from accounts.credentials import read_keys
from gateway.asgi import Headers, Scope, find_header
from gateway.brake import BRAKE
from gateway.config import GatewayConfig
from gateway.errors import GatewayError, invalid_key, missing_key
from gateway.exchange import Exchange
from gateway.keys import KeyCache
from gateway.structs import ANONYMOUS, Principal

SessionLookUp = Callable[[Scope], Awaitable[Principal | None]]
_SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
_OTHER_SITES = frozenset((b"cross-site", b"same-site"))
_OWN_SITES = frozenset((b"same-origin", b"none"))
"""`none` is what the visitor typed or chose from bookmarks."""


class Authenticator:
    """Turns credentials into principals. `find_session` finds the principal of a signed-in page, or None."""

    def __init__(self, config: GatewayConfig, keys: KeyCache, find_session: SessionLookUp | None) -> None:
        self._config = config
        self._keys = keys
        self._find_session = find_session

    async def require_inference(self, exchange: Exchange) -> Principal:
        """The principal of a request to a model: any valid key, or a signed-in page of this portal.

        Raises `KeyRejected` 401, or `GatewayError` 403 when another site uses the visitor's session, and 429 for those
        who try keys.
        """
        if not self._config.require_inference_auth:
            return ANONYMOUS
        return await self._identify(exchange)

    def recall_inference(self, digest: str | None) -> Principal | None:
        """The principal of a request to a model, by its key's hash, where nothing need be awaited to know it.

        None tells nothing. No key is None too.
        """
        if not self._config.require_inference_auth:
            return ANONYMOUS
        return None if digest is None else self._keys.recall(digest)

    async def require_management(self, exchange: Exchange) -> Principal:
        """The principal of a request to a management route: a management key, or a signed-in page of this portal.

        Raises as `require_inference` does; an inference key is refused like an unknown one.
        """
        if not self._config.require_management_auth:
            return ANONYMOUS
        principal = await self._identify(exchange)
        if principal.kind == "inference":
            raise invalid_key()
        return principal

    async def _identify(self, exchange: Exchange) -> Principal:
        presented = read_keys(exchange.headers, exchange.query)
        for credential in presented:
            if credential is not None and (principal := await self._keys.find_principal(credential)) is not None:
                # Browsers repeat a password without being asked, as they do with cookies.
                is_repeated = credential is presented.password and is_sent_elsewhere(exchange.headers)
                if is_repeated and principal.kind == "management":
                    raise GatewayError(403, "cross_site_request", "Another site's page may not do this with a password")
                return principal
        if presented.key is None and (session := await self._recall_session(exchange)) is not None:
            return session
        if presented.key is None and presented.password is None:
            raise missing_key()
        await BRAKE.hold_answer(exchange.client_host)
        raise invalid_key()

    async def _recall_session(self, exchange: Exchange) -> Principal | None:
        if self._find_session is None or find_header(exchange.headers, b"cookie") is None:
            return None
        session = await self._find_session(exchange.scope)
        if session is None:
            return None
        if is_from_another_site(exchange):
            raise GatewayError(403, "cross_site_request", "A signed-in page may send this only from the portal itself")
        if is_from_portal_or_user(exchange):
            return session
        # It may be a link or an image of any site: what runs already can be seen, but nothing is started or stopped.
        return msgspec.structs.replace(session, can_start=False, can_evict=False)


def is_from_another_site(exchange: Exchange) -> bool:
    """Whether a browser sent the request for a page that isn't the portal's own.

    What changes something must name the portal as its origin; for the rest the browser's word is enough (Fetch
    Metadata, `Sec-Fetch-Site`), or a foreign `Origin` where it gives none.
    """
    if exchange.method not in _SAFE_METHODS or exchange.scope["type"] == "websocket":
        return not _is_same_origin(exchange.headers)
    return is_sent_elsewhere(exchange.headers)


def is_sent_elsewhere(headers: Headers) -> bool:
    """Whether a browser says that another site's page made it send the request; programs say nothing."""
    site = _find_site(headers)
    if site:
        return site in _OTHER_SITES
    return find_header(headers, b"origin") is not None and not _is_same_origin(headers)


def is_from_portal_or_user(exchange: Exchange) -> bool:
    """Whether it is proven that a request comes from a page of the portal, or from the visitor's own hand.

    Browsers send Fetch Metadata to hosts they trust only (HTTPS and loopback); elsewhere `Origin` or `Referer` must
    name the portal.
    """
    headers = exchange.headers
    site = _find_site(headers)
    if site:
        return site in _OWN_SITES
    return _is_same_origin(headers) or _names_host(headers, b"referer")


def _find_site(headers: Headers) -> bytes:
    return (find_header(headers, b"sec-fetch-site") or b"").strip().lower()


def _is_same_origin(headers: Headers) -> bool:
    return _names_host(headers, b"origin")


def _names_host(headers: Headers, name: bytes) -> bool:
    """Whether the URL in this header has the host and port that the request was sent to."""
    url, host = find_header(headers, name), find_header(headers, b"host")
    if url is None or host is None:
        return False
    return url.partition(b"://")[2].partition(b"/")[0].lower() == host.lower()
