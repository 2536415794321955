"""The app of instances: what runs where."""

from django.apps import AppConfig


class InstancesConfig(AppConfig):
    """Instances, runs, nodes; their engines, supervisor and logs."""

    name = "instances"
