"""Connections to Redis or Valkey: reports of the gateways and log streams travel over it."""

from __future__ import annotations

import redis
import redis.asyncio
from django.conf import settings


def redis_client() -> redis.Redis:
    """Return a client for synchronous code; commands fail after 5 s instead of hanging."""
    return redis.Redis.from_url(settings.CORRAL.effective_redis_url, socket_timeout=5)


def async_redis_client() -> redis.asyncio.Redis:
    """Return a client for one event loop; close it with ``aclose()``."""
    return redis.asyncio.Redis.from_url(settings.CORRAL.effective_redis_url, socket_timeout=5)
