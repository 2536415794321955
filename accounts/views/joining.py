"""Pages for making an account: by an invitation, or without one where that is allowed."""

from __future__ import annotations

from allauth.core import ratelimit
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods
from redis.exceptions import RedisError

from accounts.domain.invitations import accept_invitation, find_invitation, register
from accounts.enums import Registration
from accounts.errors import InvitationNotFound
from accounts.forms import JoinForm, add_errors
from accounts.pages import UNUSABLE, public, refuse_for_now


@public
@never_cache
@sensitive_post_parameters("password", "password_again")
@require_http_methods(["GET", "HEAD", "POST"])
def accept(request: HttpRequest, token: str) -> HttpResponse:
    """Let somebody who was invited choose a name and a password, and sign them in."""
    if refusal := refuse_crowd(request):
        return refusal
    form = JoinForm(request.POST or None)
    try:
        invitation = find_invitation(token)
        if form.is_valid():
            user = accept_invitation(token=token, **form.account)
            login(request, user)
            messages.success(request, f"Welcome, {user.get_username()}.")
            return redirect("instance-list")
    except InvitationNotFound as error:
        return render(request, "accounts/setup_refused.html", {"reason": str(error)}, status=error.status)
    except ValidationError as error:
        add_errors(form, error)
    context = {"form": form, "invitation": invitation}
    return render(request, "accounts/invitation.html", context, status=UNUSABLE if form.is_bound else 200)


@public
@never_cache
@sensitive_post_parameters("password", "password_again")
@require_http_methods(["GET", "HEAD", "POST"])
def join(request: HttpRequest) -> HttpResponse:
    """Let somebody make an account without an invitation, where the settings allow it."""
    mode = settings.CORRAL.registration
    if mode == Registration.OFF:
        said = {"title": "Registration is closed", "reason": "Ask an administrator for an invitation."}
        return render(request, "accounts/setup_refused.html", said, status=403)
    if refusal := refuse_crowd(request):
        return refusal
    form = JoinForm(request.POST or None)
    try:
        if form.is_valid():
            user = register(**form.account)
            if user.awaits_approval:
                return render(request, "accounts/inactive.html", {"person": user}, status=202)
            login(request, user)
            messages.success(request, f"Welcome, {user.get_username()}.")
            return redirect("instance-list")
    except ValidationError as error:
        add_errors(form, error)
    context = {"form": form, "waits": mode == Registration.APPROVAL}
    return render(request, "accounts/register.html", context, status=UNUSABLE if form.is_bound else 200)


def refuse_crowd(request: HttpRequest) -> HttpResponse | None:
    """Return a refusal for an address that tries too often to make accounts, or while nobody counts."""
    if request.method != "POST":
        return None
    try:
        return ratelimit.consume_or_429(request, action="signup")  # type: ignore[no-any-return]
    except RedisError:
        return refuse_for_now(request)
