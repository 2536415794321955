"""Rows of the instances app."""

from instances.models.access import InstanceShare, KeyPermission
from instances.models.alias import InstanceAlias
from instances.models.event import InstanceEvent
from instances.models.instance import Instance
from instances.models.node import Node
from instances.models.run import Run

__all__ = ["Instance", "InstanceAlias", "InstanceEvent", "InstanceShare", "KeyPermission", "Node", "Run"]
