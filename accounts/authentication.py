"""How a request of the management API proves who it is: a management key, or the session of a signed-in person."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone
from rest_framework import authentication, exceptions
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request

from accounts.credentials import PresentedKeys, mark_wrong_key, read_keys
from accounts.domain.keys import find_key
from accounts.enums import KeyKind
from accounts.models import ApiKey, User
from accounts.permissions import is_from_another_site

LAST_USED_STEP = timedelta(minutes=1)


class ApiKeyAuthentication(authentication.BaseAuthentication):
    """Accepts a management key wherever a request may carry one (`accounts.credentials`).

    A wrong, revoked, expired or inference key is refused at once instead of falling back to a session; a password of
    ``Authorization: Basic`` that is no key only where there is no session either, as it may be meant for a proxy.
    """

    def authenticate(self, request: Request) -> tuple[User, ApiKey] | None:
        """Return the key's owner and the key; None when the request carries no key. Raises AuthenticationFailed.

        PermissionDenied where another site's page makes a browser repeat the password that it knows: browsers send it
        without being asked, as they send cookies.
        """
        presented = read_presented_keys(request)
        key = find_presented_key(presented)
        if key is None and presented.key is None and (presented.password is None or needs_no_key(request)):
            return None
        if key is None:
            hold_answer(request)
        if key is None or key.kind != KeyKind.MANAGEMENT:
            raise exceptions.AuthenticationFailed("Invalid API key")
        if presented.password is not None and request.method not in SAFE_METHODS and is_from_another_site(request):
            raise exceptions.PermissionDenied("Another site's page may not change anything here with a password.")
        note_use(key)
        return key.user, key

    def authenticate_header(self, request: Request) -> str:
        """Make a missing credential a 401; browsers show no password window for this scheme."""
        return "Bearer"


class SessionAuthentication(authentication.SessionAuthentication):
    """The session of a signed-in person, with Django's protection against forged requests."""

    def enforce_csrf(self, request: Request) -> None:
        """Check the token of Django's own request: Django REST framework's would read the body to find it there."""
        super().enforce_csrf(request._request)  # type: ignore[arg-type]  # noqa: SLF001  there is no other way to it


def read_presented_keys(request: HttpRequest | Request) -> PresentedKeys:
    """Return what a request brings as a key."""
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in request.headers.items()]
    return read_keys(headers, request.META["QUERY_STRING"].encode())


def find_presented_key(presented: PresentedKeys) -> ApiKey | None:
    """Return the first that is a usable key, and its user; None if there is none."""
    found = (find_key(plain.decode("latin-1")) for plain in presented if plain is not None)
    return next((key for key in found if key is not None), None)


def hold_answer(request: HttpRequest | Request) -> None:
    """Have the answer wait that goes to whoever tries keys; only an ASGI server's requests can be held."""
    scope = getattr(request, "scope", None)
    if scope is not None:
        mark_wrong_key(scope)


def needs_no_key(request: Request) -> bool:
    """Whether somebody is signed in, or nobody need be."""
    return not settings.CORRAL.require_management_auth or request._request.user.is_active  # noqa: SLF001  there is no other way to it


def note_use(key: ApiKey) -> None:
    """Keep when the key was last used, to the minute, so that a busy client does not cause a write per request."""
    now = timezone.now()
    if key.last_used_at is None or now - key.last_used_at > LAST_USED_STEP:
        stale = Q(last_used_at__isnull=True) | Q(last_used_at__lt=now - LAST_USED_STEP)
        ApiKey.objects.filter(stale, pk=key.pk).update(last_used_at=now)
