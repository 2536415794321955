"""Django's admin site without its own doors: people sign in, and change their passwords, where everybody does.

There the limits on guessing, the second factor and the audit are.
"""

from __future__ import annotations

from typing import Any, NoReturn

from django.contrib.admin import AdminSite
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache


class CorralAdminSite(AdminSite):
    """The admin site, named and with Corral's sign-in."""

    site_header = "Corral: all rows"
    site_title = "Corral"
    index_title = "All rows"

    @method_decorator(never_cache)
    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Send people to Corral's own sign-in; raise PermissionDenied for those who are signed in and may not enter."""
        if request.user.is_authenticated and not self.has_permission(request):
            raise PermissionDenied("The admin site is for administrators.")
        return redirect_to_login(request.GET.get("next") or reverse("admin:index"))  # the sign-in page checks it

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> NoReturn:
        """There is none here: Django's own would go round the domain function. Raises Http404."""
        raise Http404

    def password_change_done(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> NoReturn:
        """There is none here. Raises Http404."""
        raise Http404
