"""All routes Django serves. The gateway answers inference routes before Django sees them."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import admin
from django.http import HttpResponse
from django.urls import URLPattern, URLResolver, include, path, re_path

from accounts.api.audit import AuditView
from accounts.api.quotas import QuotaListView, QuotaView
from accounts.api.routes import both
from portal import views

handler400 = "portal.views.show_bad_request"
handler404 = "portal.views.show_not_found"
handler500 = "portal.views.show_server_error"


def with_and_without_slash(route: str, view: Callable[..., HttpResponse], name: str) -> list[URLPattern]:
    """Return a route in both forms, as `both` does it for views of the management API."""
    return [path(route, view, name=name), path(f"{route}/", view)]


urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
    # Management API
    *both("api/v1/version", views.VersionView, "api-version"),
    *both("api/v1/config", views.ConfigView, "api-config"),
    *both("api/v1/audit", AuditView, "api-audit"),
    *both("api/v1/quotas", QuotaListView, "api-quota-list"),
    *both("api/v1/quotas/<int:pk>", QuotaView, "api-quota"),
    path("api/v1/", include("accounts.api.urls")),
    path("api/v1/", include("instances.api.urls")),
    re_path(r"^api(/|$)", views.UnknownView.as_view()),
    # The API's documentation
    path("openapi.json", views.SchemaView.as_view(), name="openapi"),
    path("swagger/doc.json", views.SchemaView.as_view(), name="swagger-document"),
    *both("swagger", views.SwaggerView, "swagger"),
    # Health, for process managers and load balancers
    *with_and_without_slash("health", views.show_health, "health"),
    *with_and_without_slash("wol-health", views.answer_ok, "alive"),
    *with_and_without_slash("readyz", views.show_readiness, "readiness"),
    # Pages
    path("", include("accounts.urls")),
    path("", include("instances.urls")),
]
