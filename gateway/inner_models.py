"""The models inside instances: what a llama-server in router mode says about itself."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

import msgspec

from gateway.dial import UpstreamUnreachable
from gateway.headers import build_request_head
from gateway.pool import ConnectionPool
from gateway.structs import Route

logger = logging.getLogger(__name__)

_MAX_AGE_S = 5.0
_TIMEOUT_S = 1.0
_MAX_REMEMBERED = 1000
_MAX_ANSWER_BYTES = 4 * 2**20


class _Model(msgspec.Struct):
    id: str


class _Answer(msgspec.Struct):
    data: list[_Model] = []


class InnerModels:
    """Asks ready llama-servers that serve no fixed model which ones they have; remembers it for a few seconds."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._known: dict[tuple[str, int | None], tuple[float, list[str]]] = {}

    async def list_models(self, routes: Sequence[Route]) -> dict[str, list[str]]:
        """The models by instance name. An instance that doesn't answer in a second is left out here, not everywhere."""
        asked = [route for route in routes if _may_have_models(route)]
        found = await asyncio.gather(*(self._ask_or_remember(route) for route in asked))
        return {route.name: models for route, models in zip(asked, found, strict=True) if models}

    async def _ask_or_remember(self, route: Route) -> list[str]:
        key = (route.name, route.run_id)
        known = self._known.get(key)
        if known is not None and time.monotonic() - known[0] < _MAX_AGE_S:
            return known[1]
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                models = await self._ask(route)
        except (TimeoutError, UpstreamUnreachable, msgspec.DecodeError, UnicodeDecodeError) as error:
            logger.info("Instance %s does not say which models it has: %s", route.name, error)
            models = []
        if len(self._known) > _MAX_REMEMBERED:
            self._known.clear()
        self._known[key] = (time.monotonic(), models)
        return models

    async def _ask(self, route: Route) -> list[str]:
        connection = await self._pool.dial((route.host, route.port), _TIMEOUT_S).finish()
        try:
            target = route.path_prefix.encode() + b"/models"
            head = build_request_head("GET", target, route, [], client_host=None)
            connection.start(head + b"\r\n", b"", is_head_request=False)
            body = b""
            while not (connection.is_complete or connection.is_lost) and len(body) < _MAX_ANSWER_BYTES:
                await connection.changed()
                body += connection.take()
            return [model.id for model in msgspec.json.decode(body, type=_Answer).data]
        finally:
            connection.abort()


def _may_have_models(route: Route) -> bool:
    return route.is_routable and route.backend_type == "llama_cpp" and route.served_model is None
