"""Events about instances, to pages and gateways; how they travel says ``accounts/events.py``."""

from __future__ import annotations

from typing import Literal, TypedDict

from accounts.events import GROUP, publish_on_commit

__all__ = ["GROUP", "InstanceChanged", "publish_instance_event"]


class InstanceChanged(TypedDict):
    """An instance has a new state, wish or options; ``version`` is the id of its newest InstanceEvent."""

    type: Literal["instance.changed", "instance.deleted"]
    instance_id: int
    name: str
    state: str
    version: int


def publish_instance_event(event: InstanceChanged) -> None:
    """Send the event once the current transaction is committed."""
    publish_on_commit(event)
