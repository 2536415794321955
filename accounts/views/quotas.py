"""The page of limits: one's own, and for administrators all."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.models import Group
from django.http import Http404, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from accounts.domain.quota_search import find_holder, find_quota, list_all, list_limits_of
from accounts.domain.quotas import delete_quota, set_quota
from accounts.domain.rights import is_manager_of_people
from accounts.enums import QuotaUnit, QuotaWindow
from accounts.errors import NotAllowed, QuotaNotFound, QuotaRefused
from accounts.forms import QuotaForm, add_refusal
from accounts.models import User
from accounts.pages import UNUSABLE, PageRequest, page_actor, require_person


@never_cache
@require_person
@require_http_methods(["GET", "HEAD", "POST"])
def show_limits(request: PageRequest) -> HttpResponseBase:
    """Show what limits the person and what is left of it; administrators see all limits and set them here."""
    actor = page_actor(request)
    form = QuotaForm(request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid():
        given = form.cleaned_data
        try:
            user, group = find_holder(user=given["user"], team=given["team"])
            quota = set_quota(
                actor=actor, unit=given["unit"], window=given["window"], limit=given["limit"], user=user, group=group
            )
            messages.success(request, f"Set: {quota}.")
            return redirect("limits")
        except (QuotaRefused, NotAllowed) as error:
            add_refusal(form, error)
    may_set = is_manager_of_people(actor)
    context = {
        "own": list_limits_of(actor.user) if actor.user is not None else [],
        "all": list_all() if may_set else [],
        "may_set": may_set,
        "form": form,
        "people": User.objects.order_by("username").values_list("username", flat=True)[:500] if may_set else [],
        "teams": Group.objects.order_by("name").values_list("name", flat=True)[:500] if may_set else [],
        "units": QuotaUnit.choices,
        "windows": QuotaWindow.choices,
    }
    return render(request, "accounts/limits.html", context, status=UNUSABLE if form.is_bound else 200)


@never_cache
@require_person
@require_POST
def delete_limit(request: PageRequest, pk: int) -> HttpResponseBase:
    """End a limit."""
    actor = page_actor(request)
    try:
        quota = find_quota(actor, pk)
    except QuotaNotFound as error:
        raise Http404(str(error)) from error
    said = str(quota)
    delete_quota(actor=actor, quota=quota)
    messages.success(request, f"Ended: {said}.")
    return redirect("limits")
