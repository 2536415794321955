"""The app of instances: what runs where."""

from django.apps import AppConfig


class InstancesConfig(AppConfig):
    """Instances, runs, nodes; their engines, supervisor and logs."""

    name = "instances"

    def ready(self) -> None:
        """Import what listens to people who leave."""
        from instances import receivers  # noqa: F401, PLC0415  registration is the purpose of the import
