"""Django's admin app with Corral's site in it."""

from __future__ import annotations

from django.contrib.admin.apps import AdminConfig


class CorralAdminConfig(AdminConfig):
    """Has the models registered with Corral's own site."""

    default_site = "portal.admin_site.CorralAdminSite"
