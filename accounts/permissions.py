"""Which requests of the management API go on to the view. What an actor may do there is the domain's to decide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from rest_framework import exceptions, permissions
from rest_framework.request import Request

from accounts.domain.actors import ANONYMOUS, Actor, actor_for
from accounts.models import ApiKey, User

if TYPE_CHECKING:  # the settings name these classes, so importing the views here would be circular
    from rest_framework.views import APIView


class CanManage(permissions.BasePermission):
    """Lets in people and management keys; everybody where ``require_management_auth`` is off.

    Without authentication a browser would carry out what any page on the web asks of it, so changes that come from
    another site are refused then.
    """

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Raise NotAuthenticated without a credential, PermissionDenied for a cross-site change without one."""
        if isinstance(request.user, User) and request.user.is_active:
            return True
        if settings.CORRAL.require_management_auth:
            raise exceptions.NotAuthenticated("Missing API key")
        if request.method not in permissions.SAFE_METHODS and is_from_another_site(request):
            raise exceptions.PermissionDenied("Another site's page may not change anything here without an API key.")
        return True


def is_from_another_site(request: Request) -> bool:
    """Whether a browser says that another site's page asks (Fetch Metadata), one not named in ``allowed_origins``."""
    is_foreign = request.headers.get("Sec-Fetch-Site") == "cross-site"
    return is_foreign and request.headers.get("Origin") not in settings.CORRAL.allowed_origins


def actor_of(request: Request) -> Actor:
    """Return who makes this request; call it only where CanManage has let the request in."""
    if isinstance(request.user, User):
        return actor_for(request.user, request.auth if isinstance(request.auth, ApiKey) else None)
    return ANONYMOUS


class CanOperate(CanManage):
    """Lets in operators and administrators: what tells about the host, or runs a program on it, is not for members."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Raise as CanManage does, and PermissionDenied for members."""
        super().has_permission(request, view)
        if not actor_of(request).is_operator:
            raise exceptions.PermissionDenied("Only operators and administrators may do this.")
        return True
