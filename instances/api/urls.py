"""Routes of the management API below ``/api/v1/``. Every one works with and without a slash at its end."""

from __future__ import annotations

from django.urls import URLPattern

from accounts.api.routes import both
from instances.api import errors  # noqa: F401  registers what errors of instances mean
from instances.api.views.accounting import ActivityView, UsageView
from instances.api.views.actions import EventListView, LogView, RestartView, StartView, StopView
from instances.api.views.backends import DescriptionView, ParseCommandView
from instances.api.views.instances import InstanceListView, InstanceView
from instances.api.views.keys import (
    KeyListView,
    KeyPermissionsView,
    KeyRevocationView,
    KeyRotationView,
    KeyView,
)
from instances.api.views.sharing import OwnerView, ShareListView, TeamShareView, UserShareView
from instances.backends.registry import BACKENDS
from instances.domain.backend_info import Topic

TOPICS: dict[str, tuple[Topic, ...]] = {
    "llama-cpp": ("help", "version", "devices"),
    "vllm": ("help", "version"),
    "mlx": ("help", "version"),
}


def engine_routes() -> list[URLPattern]:
    """Return the routes of the engines that have a program of their own, and llamactl's older ones of llama.cpp."""
    routes: list[URLPattern] = []
    for backend in BACKENDS.values():
        for topic in TOPICS.get(backend.config_key, ()):
            options = {"backend_type": backend.type, "topic": topic}
            name = f"{backend.config_key}-{topic}"
            routes += both(f"backends/{backend.config_key}/{topic}", DescriptionView, name, **options)
            if backend.config_key == "llama-cpp":
                routes += both(f"server/{topic}", DescriptionView, f"server-{topic}", **options)
        if backend.config_key in TOPICS:
            route = f"backends/{backend.config_key}/parse-command"
            name = f"{backend.config_key}-parse-command"
            routes += both(route, ParseCommandView, name, backend_type=backend.type)
    return routes


urlpatterns = [
    *engine_routes(),
    *both("auth/keys", KeyListView, "api-key-list"),
    *both("auth/keys/<str:key_id>", KeyView, "api-key"),
    *both("auth/keys/<str:key_id>/permissions", KeyPermissionsView, "api-key-permissions"),
    *both("auth/keys/<str:key_id>/rotate", KeyRotationView, "api-key-rotate"),
    *both("auth/keys/<str:key_id>/revoke", KeyRevocationView, "api-key-revoke"),
    *both("activity", ActivityView, "api-activity"),
    *both("usage", UsageView, "api-usage"),
    *both("instances", InstanceListView, "api-instance-list"),
    *both("instances/<str:name>", InstanceView, "api-instance"),
    *both("instances/<str:name>/start", StartView, "api-instance-start"),
    *both("instances/<str:name>/stop", StopView, "api-instance-stop"),
    *both("instances/<str:name>/restart", RestartView, "api-instance-restart"),
    *both("instances/<str:name>/logs", LogView, "api-instance-logs"),
    *both("instances/<str:name>/events", EventListView, "api-instance-events"),
    *both("instances/<str:name>/shares", ShareListView, "api-instance-shares"),
    *both("instances/<str:name>/shares/users/<str:user>", UserShareView, "api-instance-share-user"),
    *both("instances/<str:name>/shares/teams/<path:team>", TeamShareView, "api-instance-share-team"),
    *both("instances/<str:name>/owner", OwnerView, "api-instance-owner"),
]
