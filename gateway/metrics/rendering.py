"""The answer to a scrape."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from prometheus_client.exposition import choose_encoder
from redis.asyncio import Redis

from gateway.metrics.families import PictureCollector
from gateway.metrics.reading import MetricsUnavailable, read_picture
from gateway.routes import RouteTable

_PLAIN = "text/plain; charset=utf-8"


class Rendering(NamedTuple):
    """An answer to `GET /metrics`."""

    status: int
    content_type: str
    body: bytes


def refuse_rendering(reason: str) -> Rendering:
    """The answer while there are no metrics: 503 with the reason as a comment."""
    return Rendering(503, _PLAIN, f"# metrics are not available: {reason}\n".encode())


async def render_metrics(
    redis: Redis, routes: RouteTable, accept: str = "", usable: Callable[[int], bool] | None = None
) -> Rendering:
    """Render all metrics in what the header `Accept` asks for: OpenMetrics 1.0, else Prometheus' text format 0.0.4.

    `usable` limits it to the instances for which it is true, without figures of hosts and without requests that came
    to no instance; None shows everything. Raises nothing: what can't be read makes an answer 503.
    """
    if not routes.is_loaded:
        return refuse_rendering("the instances are not known yet")
    try:
        picture = await read_picture(redis)
    except MetricsUnavailable as error:
        return refuse_rendering(str(error))
    collector = PictureCollector(picture, dict(routes.by_id), usable)
    encode, content_type = choose_encoder(accept)
    # In a thread: a thousand instances take a while, and requests must not wait for it.
    body = await asyncio.to_thread(encode, collector)
    return Rendering(200, content_type, body)
