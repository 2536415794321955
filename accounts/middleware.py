"""What is noted of each request that Django serves."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction

from django.http import HttpRequest, HttpResponseBase
from django.urls import reverse
from django.utils.decorators import sync_and_async_middleware
from django.utils.deprecation import MiddlewareMixin

from accounts.domain.origins import Origin, use_origin
from accounts.domain.sessions import note_seen
from accounts.enums import AuditSource

#: Ids that clients choose are kept only in the form ids have, as they are shown and exported.
REQUEST_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)
Next = Callable[[HttpRequest], HttpResponseBase] | Callable[[HttpRequest], Awaitable[HttpResponseBase]]


@sync_and_async_middleware
def note_origin(get_response: Next) -> Next:
    """Keep where a request comes from for the audit, while it is served."""
    if iscoroutinefunction(get_response):

        async def serve_later(request: HttpRequest) -> HttpResponseBase:
            with use_origin(read_origin(request)):
                response: HttpResponseBase = await get_response(request)
                return response

        return serve_later

    def serve(request: HttpRequest) -> HttpResponseBase:
        with use_origin(read_origin(request)):
            return get_response(request)  # type: ignore[return-value]  # not a coroutine, as was asked above

    return serve


def read_origin(request: HttpRequest) -> Origin:
    """Return the door, the client's address and the id of a request."""
    request_id = request.headers.get("X-Request-Id", "")
    return Origin(
        source=find_source(request.path),
        address=request.META.get("REMOTE_ADDR") or "",
        request_id=request_id if REQUEST_ID.fullmatch(request_id) else "",
    )


def find_source(path: str) -> AuditSource:
    """Return which door an address belongs to."""
    if path.startswith("/api/"):
        return AuditSource.API
    return AuditSource.ADMIN_SITE if path.startswith(reverse("admin:index")) else AuditSource.PAGE


class SessionUse(MiddlewareMixin):
    """Keeps when sessions were last used."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Note the use by somebody signed in, if this request has looked who it is."""
        user = getattr(request, "_cached_user", None)  # asking ``request.user`` would read the database for nothing
        if user is not None and user.is_authenticated and request.session.session_key:
            note_seen(session_key=request.session.session_key)
        return response
