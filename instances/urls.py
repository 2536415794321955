"""Routes of the pages about instances."""

from __future__ import annotations

from django.urls import URLPattern, path

from accounts.pages import page_routes
from instances import converters  # noqa: F401  registers the converter "instance"
from instances.views import actions, details, forms, keys, lists, sharing

urlpatterns: list[URLPattern] = [
    path("", lists.show_list, name="instance-list"),
    *page_routes("instances/", lists.show_list, "instances"),
    *page_routes("instances/new/", forms.create, "instance-create"),
    *page_routes("instances/<instance:name>/", details.show_instance, "instance-detail"),
    *page_routes("instances/<instance:name>/edit/", forms.edit, "instance-edit"),
    *page_routes("instances/<instance:name>/export/", details.export_instance, "instance-export"),
    *page_routes("instances/<instance:name>/start/", actions.start, "instance-start"),
    *page_routes("instances/<instance:name>/stop/", actions.stop, "instance-stop"),
    *page_routes("instances/<instance:name>/restart/", actions.restart, "instance-restart"),
    *page_routes("instances/<instance:name>/delete/", actions.delete, "instance-delete"),
    *page_routes("instances/<instance:name>/sharing/", sharing.share, "instance-sharing"),
    *page_routes("instances/<instance:name>/owner/", sharing.give_away, "instance-owner"),
    *page_routes("keys/", keys.show_keys, "key-list"),
    *page_routes("keys/new/", keys.create, "key-create"),
    *page_routes("keys/<int:pk>/", keys.edit, "key-edit"),
    *page_routes("keys/<int:pk>/rotate/", keys.rotate, "key-rotate"),
    *page_routes("keys/<int:pk>/revoke/", keys.revoke, "key-revoke"),
    *page_routes("keys/<int:pk>/delete/", keys.delete, "key-delete"),
]
