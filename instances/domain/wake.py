"""Telling a node's supervisor to look now instead of at its next tick."""

from __future__ import annotations

import logging

from django.db import transaction
from redis.exceptions import RedisError

from instances.redis import redis_client

logger = logging.getLogger(__name__)


def wake_channel(node: str) -> str:
    """Return the pub/sub channel that the supervisor of this node listens on."""
    return f"corral:wake:{node}"


def wake_node(node: str) -> None:
    """Nudge the supervisor once the current transaction is committed; only a hint, it looks every two seconds."""
    transaction.on_commit(lambda: publish_wake(node), robust=True)


def publish_wake(node: str) -> None:
    """Send the nudge now; a broken Redis is logged, never raised."""
    try:
        with redis_client() as client:
            client.publish(wake_channel(node), b"")
    except RedisError as error:
        logger.warning("node %s was not woken and will look by itself: %s", node, error)
