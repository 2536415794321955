"""How pages answer: whole or in part, and what becomes of an error of the domain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from django.contrib import messages
from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.http import Http404, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache

from accounts.pages import UNUSABLE, PageRequest, require_person
from accounts.sentences import as_sentence
from instances.errors import InstanceError

P = ParamSpec("P")
FRAGMENT = "Corral-Fragment"
"""Header of answers that a script may put into the page, errors among them; others are whole pages."""


def instance_page(view: Callable[Concatenate[PageRequest, P], HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Let people in and turn what the domain refuses into an answer they can read."""

    @wraps(view)
    def answering(request: PageRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        try:
            return view(request, *args, **kwargs)
        except InstanceError as error:
            return answer_error(request, error, str(kwargs.get("name", "")))

    return never_cache(require_person(answering))


def answer_error(request: PageRequest, error: InstanceError, name: str) -> HttpResponseBase:
    """Show an error: as a page where one was asked for, as a message where something was to be done."""
    if request.method in ("GET", "HEAD"):
        if error.status in (400, 404):
            if not request.htmx:
                raise Http404(str(error))
            if request.htmx.target != "status":  # one part of the page speaks for all
                return HttpResponse(status=204)
            messages.info(request, f"{name} is not there any more.")
            return go_to(request, reverse("instance-list"))
        if error.status == 403 and not request.htmx:
            raise DjangoPermissionDenied(str(error))
    messages.error(request, tell(error, name))
    if request.htmx:
        return render_part(request, "_nothing.html", {}, status=status_of(error))
    is_gone = error.status in (400, 404) or not name
    return redirect("instance-list") if is_gone else redirect("instance-detail", name=name)


def tell(error: InstanceError, name: str) -> str:
    """Return the error as a short message. The log lines behind its first line stand on the instance's page."""
    first = as_sentence(error).strip().partition("\n")[0]
    return first if not name or name in first else f"{name}: {first}"


def status_of(error: InstanceError) -> int:
    """Return the HTTP status for a page. An engine's failure is no fault of Corral's, hence never a 500."""
    return UNUSABLE if error.status in (400, 500) else error.status


def render_part(request: PageRequest, template: str, context: Mapping[str, Any], status: int = 200) -> HttpResponse:
    """Return a part of a page, and the messages that wait to be shown."""
    response = render(request, "_part.html", {**context, "part": template}, status=status)
    response[FRAGMENT] = "true"
    return response


def go_to(request: PageRequest, url: str) -> HttpResponse:
    """Send the browser to another page."""
    return HttpResponse(headers={"HX-Redirect": url}) if request.htmx else redirect(url)
