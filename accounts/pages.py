"""What all pages share: who may open them, who acts, and their routes."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import resolve_url
from django.urls import URLPattern, path
from django_htmx.middleware import HtmxDetails

from accounts.domain.actors import ANONYMOUS, Actor, actor_for
from accounts.models import User

P = ParamSpec("P")
Page = Callable[..., HttpResponseBase]
R = TypeVar("R", bound=HttpResponseBase)


class PageRequest(HttpRequest):
    """A request as pages see it: Django's and what the htmx middleware adds."""

    htmx: HtmxDetails


def require_person(
    view: Callable[Concatenate[PageRequest, P], HttpResponseBase],
) -> Callable[Concatenate[PageRequest, P], HttpResponseBase]:
    """Let in people who are signed in; everybody where ``require_management_auth`` is off, as the API does.

    Others are sent to the sign-in page and come back afterwards to what they wanted to read.
    """

    @wraps(view)
    def guarded(request: PageRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if request.user.is_authenticated or not settings.CORRAL.require_management_auth:
            return view(request, *args, **kwargs)
        if request.htmx:
            current = urlsplit(request.htmx.current_url or "")
            back = redirect_to_login(current._replace(scheme="", netloc="").geturl() or "/")
            return HttpResponse(status=401, headers={"HX-Redirect": back.url})
        return redirect_to_login(request.get_full_path() if request.method == "GET" else resolve_url("/"))

    guarded.access = "person"  # type: ignore[attr-defined]  # a mark for the test that walks every route
    return guarded


def public(view: Callable[P, R]) -> Callable[P, R]:
    """Mark a view that anybody may open."""
    view.access = "public"  # type: ignore[attr-defined]  # a mark for the test that walks every route
    return view


def page_actor(request: HttpRequest) -> Actor:
    """Return who acts on a page that ``require_person`` has let in."""
    return actor_for(request.user) if isinstance(request.user, User) else ANONYMOUS


def page_routes(route: str, view: Page, name: str, **options: Any) -> list[URLPattern]:
    """Return a page's route with a slash at its end, and without, since a redirect would lose the body of a POST."""
    return [path(route, view, options, name=name), path(route.rstrip("/"), view, options)]
