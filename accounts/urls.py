"""Routes of the pages about people."""

from __future__ import annotations

from django.urls import URLPattern

from accounts import audit_views, quota_views
from accounts.pages import page_routes, public
from accounts.views import SignInView, SignOutView, set_up

urlpatterns: list[URLPattern] = [
    *page_routes("login/", public(SignInView.as_view()), "login"),
    *page_routes("logout/", public(SignOutView.as_view()), "logout"),
    *page_routes("setup/<str:token>/", set_up, "setup"),
    *page_routes("limits/", quota_views.show_limits, "limits"),
    *page_routes("limits/<int:pk>/delete/", quota_views.delete_limit, "limit-delete"),
    *page_routes("audit/", audit_views.show_audit, "audit"),
    *page_routes("audit/export/", audit_views.export_audit, "audit-export"),
    *page_routes("audit/<int:pk>/", audit_views.show_entry, "audit-entry"),
]
