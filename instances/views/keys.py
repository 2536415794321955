"""The pages of API keys: the list, making and changing one, and what ends one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from accounts.domain.quotas import read_key_limits
from accounts.domain.rights import is_manager_of_people
from accounts.domain.setup import owner_of_automation
from accounts.errors import KeyRefused
from accounts.models import ApiKey
from accounts.pages import UNUSABLE, PageRequest, page_actor, require_person
from accounts.resending import note_sent, was_sent
from instances.domain.key_requests import read_key_request
from instances.domain.keys import (
    change_key,
    create_key,
    delete_key,
    find_key,
    listed_instances,
    revoke_key,
    rotate_key,
    usable_instances,
    visible_keys,
)
from instances.key_forms import KeyForm, read_initial

P = ParamSpec("P")
PAGE = 50
GRACES = ((0, "At once"), (600, "In 10 minutes"), (3600, "In an hour"), (86_400, "In a day"), (604_800, "In a week"))
"""When the secret before a rotation may die, in seconds."""


def key_page(view: Callable[Concatenate[PageRequest, P], HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Let people in, and answer for keys that they may not see or change."""

    @wraps(view)
    def answering(request: PageRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        try:
            return view(request, *args, **kwargs)
        except KeyRefused as error:
            if error.status == 404:
                raise Http404(str(error)) from error
            if error.status == 403:
                raise PermissionDenied(str(error)) from error
            messages.error(request, str(error))
            return redirect("key-list")

    return never_cache(require_person(answering))


@key_page
@require_safe
def show_keys(request: PageRequest) -> HttpResponseBase:
    """Show one's own keys; an administrator may look at everybody's."""
    actor = page_actor(request)
    may_see_all = is_manager_of_people(actor)
    owner = request.GET.get("user", "").replace("\0", "").strip()[:150]
    keys = visible_keys(actor)
    if may_see_all and owner:
        keys = keys.filter(user__username=owner)
    elif not (may_see_all and "all" in request.GET) and actor.user is not None:
        keys = keys.filter(user=actor.user)
    context = {
        "page": Paginator(keys.prefetch_related("permissions__instance", "quotas"), PAGE).get_page(
            request.GET.get("page")
        ),
        "may_see_all": may_see_all,
        "shows_all": may_see_all and ("all" in request.GET or bool(owner)),
        "owner": owner,
        "now": timezone.now(),
    }
    return render(request, "instances/keys.html", context)


@key_page
@require_http_methods(["GET", "HEAD", "POST"])
def create(request: PageRequest) -> HttpResponseBase:
    """Make a key; the answer shows its secret, this once."""
    actor = page_actor(request)
    instances = usable_instances(actor.user or owner_of_automation())
    form = KeyForm(request.POST if request.method == "POST" else None, instances=instances)
    if was_sent(request):
        return tell_made(request)
    if form.is_bound and form.is_valid():
        try:
            key, secret = create_key(actor=actor, values=read_key_request(form.to_body(), is_new=True))
            note_sent(request)
            return show_secret(request, key, secret)
        except KeyRefused as error:
            add_fault(form, error)
    return render(request, "instances/key_form.html", {"form": form}, status=UNUSABLE if form.is_bound else 200)


@key_page
@require_http_methods(["GET", "HEAD", "POST"])
def edit(request: PageRequest, pk: int) -> HttpResponseBase:
    """Change a key: its name, instances, expiry, rights and limits."""
    actor = page_actor(request)
    key = find_key(actor, pk)
    initial = read_initial(key, listed_instances(key), read_key_limits(key))
    data = request.POST if request.method == "POST" else None
    form = KeyForm(data, instances=usable_instances(key.user), key=key, initial=initial)
    if form.is_bound and form.is_valid():
        try:
            change_key(actor=actor, key=key, values=read_key_request(form.to_body(), is_new=False))
            messages.success(request, f"{form.cleaned_data['name']} was changed.")
            return redirect("key-list")
        except KeyRefused as error:
            add_fault(form, error)
    context = {"form": form, "key": key, "has_limits": bool(read_key_limits(key))}
    return render(request, "instances/key_form.html", context, status=UNUSABLE if form.is_bound else 200)


@key_page
@require_http_methods(["GET", "HEAD", "POST"])
def rotate(request: PageRequest, pk: int) -> HttpResponseBase:
    """Ask when the old secret shall die, and make a new one."""
    actor = page_actor(request)
    key = find_key(actor, pk)
    if request.method != "POST":
        return render(request, "instances/key_rotate.html", {"key": key, "graces": GRACES})
    if was_sent(request):
        return tell_made(request)
    known = {str(seconds): seconds for seconds, _ in GRACES}
    grace = timedelta(seconds=known.get(request.POST.get("grace", "0"), 0))
    secret = rotate_key(actor=actor, key=key, grace=grace)
    note_sent(request)
    return show_secret(request, key, secret)


@key_page
@require_http_methods(["GET", "HEAD", "POST"])
def revoke(request: PageRequest, pk: int) -> HttpResponseBase:
    """Ask whether a key shall end, and end it."""
    return end(request, pk, "Revoke", "It stops working at once and for good. It stays in the list.", revoke_key)


@key_page
@require_http_methods(["GET", "HEAD", "POST"])
def delete(request: PageRequest, pk: int) -> HttpResponseBase:
    """Ask whether a key shall be deleted, and delete it."""
    return end(
        request, pk, "Delete", "It stops working at once and leaves the list. The activity keeps its name.", delete_key
    )


def end(request: PageRequest, pk: int, verb: str, consequence: str, act: Callable[..., None]) -> HttpResponseBase:
    """Ask before something that can't be undone, and do it."""
    actor = page_actor(request)
    key = find_key(actor, pk)
    if request.method != "POST":
        context: dict[str, Any] = {"key": key, "verb": verb, "consequence": consequence}
        return render(request, "instances/key_end.html", context)
    name = key.name
    act(actor=actor, key=key)
    messages.success(request, f"{name} was {verb.lower()}d.")
    return redirect("key-list")


def show_secret(request: PageRequest, key: ApiKey, secret: str) -> HttpResponse:
    """Show a secret, this once; ``never_cache`` sees to it that the answer is kept nowhere."""
    return render(request, "instances/key_secret.html", {"key": key, "secret": secret})


def tell_made(request: PageRequest) -> HttpResponse:
    """Answer who sends a form again that has made a secret."""
    messages.info(request, "This was done already. A secret is shown once only; rotate the key if you lost it.")
    return redirect("key-list")


def add_fault(form: KeyForm, error: KeyRefused) -> None:
    """Put the domain's complaint beside the field it is about."""
    form.add_error(error.field if error.field in form.fields else None, error.why or f"{error}.")
