"""How a request of the management API proves who it is: a management key, or the session of a signed-in person."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.db.models import Q
from django.utils import timezone
from rest_framework import authentication, exceptions
from rest_framework.request import Request

from accounts.domain.keys import find_key
from accounts.enums import KeyKind
from accounts.models import ApiKey, User

LAST_USED_STEP = timedelta(minutes=1)


class ApiKeyAuthentication(authentication.BaseAuthentication):
    """Accepts a management key as ``Authorization: Bearer`` (RFC 6750), ``X-API-Key`` or the query's ``api_key``.

    The scheme is read in any case (RFC 9110, 11.1); another scheme falls through to the next place. A wrong, revoked,
    expired or inference key is refused at once instead of falling back to a session.
    """

    def authenticate(self, request: Request) -> tuple[User, ApiKey] | None:
        """Return the key's owner and the key; None when the request carries no key. Raises AuthenticationFailed."""
        plain = read_credential(request.headers, request.query_params)
        if not plain:
            return None
        key = find_key(plain)
        if key is None or key.kind != KeyKind.MANAGEMENT:
            raise exceptions.AuthenticationFailed("Invalid API key")
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


def read_credential(headers: Mapping[str, str], query: Mapping[str, Any]) -> str:
    """Return the first API key that a request carries, or an empty text."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("X-API-Key", "").strip() or str(query.get("api_key", "")).strip()


def note_use(key: ApiKey) -> None:
    """Keep when the key was last used, to the minute, so that a busy client does not cause a write per request."""
    now = timezone.now()
    if key.last_used_at is None or now - key.last_used_at > LAST_USED_STEP:
        stale = Q(last_used_at__isnull=True) | Q(last_used_at__lt=now - LAST_USED_STEP)
        ApiKey.objects.filter(stale, pk=key.pk).update(last_used_at=now)
