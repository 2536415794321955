"""What all pages share: who may open them, who acts, and their routes."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import SplitResult, urlsplit

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render, resolve_url
from django.urls import URLPattern, path
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django_htmx.middleware import HtmxDetails

from accounts.domain.actors import ANONYMOUS, Actor, actor_for
from accounts.errors import AccountError
from accounts.models import User
from accounts.sentences import as_sentence

P = ParamSpec("P")
Page = Callable[..., HttpResponseBase]
R = TypeVar("R", bound=HttpResponseBase)
UNUSABLE = 422
"""The status of a form shown again: content that can't be used (RFC 9110, 15.5.21)."""


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
            current = split_address(request.htmx.current_url or "")
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


def account_page(view: Callable[Concatenate[PageRequest, P], HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Let people in, and turn what the domain refuses into an answer they can read.

    A page that can't be shown is a 404 or 403; an action that is refused leads back with a message.
    """

    @wraps(view)
    def answering(request: PageRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        try:
            return view(request, *args, **kwargs)
        except AccountError as error:
            if error.status == 404:
                raise Http404(str(error)) from error
            if request.method in ("GET", "HEAD") and error.status == 403:
                raise PermissionDenied(str(error)) from error
            messages.error(request, as_sentence(error))
        except ValidationError as error:
            messages.error(request, " ".join(error.messages))
        return redirect(came_from(request))

    return never_cache(require_person(answering))


def own_page(view: Callable[Concatenate[PageRequest, P], HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """As ``account_page``, for what only somebody signed in has, whatever ``require_management_auth`` says."""

    @wraps(view)
    def answering(request: PageRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path() if request.method == "GET" else resolve_url("/"))
        return view(request, *args, **kwargs)

    return account_page(answering)


def refuse_for_now(request: HttpRequest) -> HttpResponse:
    """Say that nobody can sign in while Redis, which counts the attempts, does not answer."""
    response = render(request, "accounts/not_now.html", status=503)
    response["Retry-After"] = "10"
    return response


def split_address(text: str) -> SplitResult:
    """Return the parts of an address that a client names; empty ones when it is none (``http://[``)."""
    try:
        return urlsplit(text)
    except ValueError:
        return urlsplit("")


def came_from(request: HttpRequest) -> str:
    """Return the page of ours that an action was asked from, the first page if that is not known."""
    referer = split_address(request.headers.get("Referer", ""))
    is_ours = referer.netloc == request.get_host() and referer.path.startswith("/") and referer.path != request.path
    is_ours = is_ours and url_has_allowed_host_and_scheme(referer.path, None)  # a path like //example.org is an address
    return referer._replace(scheme="", netloc="", fragment="").geturl() if is_ours else resolve_url("/")
