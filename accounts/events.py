"""Sending events to pages and gateways: small hints that something changed.

They travel over the Channels pub/sub layer in the group ``events``. Nothing depends on their arrival: pages refetch
when a socket opens, gateways re-read what is used every few seconds, the supervisor looks every two. This module
sends; what the events of instances look like says ``instances/events.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal, TypedDict

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

GROUP = "events"


class KeysChanged(TypedDict):
    """A key, a user or a share changed; caches of principals must be emptied."""

    type: Literal["keys.changed"]


def announce_keys_changed() -> None:
    """Tell every process on commit that rights may have changed, so that they are looked up again at once."""
    event: KeysChanged = {"type": "keys.changed"}
    publish_on_commit(event)


def publish_on_commit(event: Mapping[str, Any]) -> None:
    """Send the event once the current transaction is committed (at once outside of one)."""
    transaction.on_commit(lambda: publish(event), robust=True)


def publish(event: Mapping[str, Any]) -> None:
    """Send the event from synchronous code. A broken Redis is logged, never raised: the event is only a hint."""
    layer = get_channel_layer()
    try:
        async_to_sync(layer.group_send)(GROUP, dict(event))
    except (RedisError, OSError, RuntimeError) as error:
        logger.warning("event %s was not sent: %s", event["type"], error)
