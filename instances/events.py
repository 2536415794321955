"""Events to pages and gateways: small hints that something changed, sent from this module only.

They travel over the Channels pub/sub layer in the group ``events``. Nothing depends on their arrival: pages refetch
when a socket opens, gateways re-read every few seconds, the supervisor looks every two.
"""

from __future__ import annotations

import logging
from typing import Literal, TypedDict, cast

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction

logger = logging.getLogger(__name__)

GROUP = "events"


class InstanceChanged(TypedDict):
    """An instance has a new state, wish or options; ``version`` is the id of its newest InstanceEvent."""

    type: Literal["instance.changed", "instance.deleted"]
    instance_id: int
    name: str
    state: str
    version: int


class KeysChanged(TypedDict):
    """A key, a user or a share changed; caches of principals must be emptied."""

    type: Literal["keys.changed"]


Event = InstanceChanged | KeysChanged


def publish_on_commit(event: Event) -> None:
    """Send the event once the current transaction is committed (at once outside of one)."""
    transaction.on_commit(lambda: publish(event), robust=True)


def publish(event: Event) -> None:
    """Send the event from synchronous code. A broken Redis is logged, never raised: the event is only a hint."""
    layer = get_channel_layer()
    try:
        async_to_sync(layer.group_send)(GROUP, cast("dict[str, object]", event))
    except (OSError, RuntimeError) as error:
        logger.warning("event %s was not sent: %s", event["type"], error)
