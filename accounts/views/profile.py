"""A person's own page: who they are, how they sign in, and where they are signed in."""

from __future__ import annotations

from typing import Any, cast

from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.core.exceptions import ValidationError
from django.http import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST, require_safe

from accounts.domain.actors import actor_for
from accounts.domain.people import change_details, set_password
from accounts.domain.sessions import end_session, end_sessions, list_sessions, note_session
from accounts.forms import ChangePasswordForm, DetailsForm, add_errors
from accounts.models import User
from accounts.pages import UNUSABLE, PageRequest, own_page
from accounts.signin.account import check_own_password


@own_page
@require_safe
def show(request: PageRequest) -> HttpResponseBase:
    """Show the page."""
    return render_profile(request)


@own_page
@require_POST
def save_details(request: PageRequest) -> HttpResponseBase:
    """Change names and e-mail address."""
    user, form = person(request), DetailsForm(request.POST)
    if not form.is_valid():
        return render_profile(request, details=form)
    try:
        change_details(actor=actor_for(user), user=user, **form.cleaned_data)
    except ValidationError as error:
        add_errors(form, error)
        return render_profile(request, details=form)
    messages.success(request, "Saved.")
    return redirect("profile")


@own_page
@sensitive_post_parameters()
@require_POST
def save_password(request: PageRequest) -> HttpResponseBase:
    """Change the password, which signs the person out everywhere else."""
    user, form = person(request), ChangePasswordForm(request.POST)
    try:
        if form.is_valid():
            check_own_password(request, user, form.cleaned_data["old_password"])
            set_password(actor=actor_for(user), user=user, password=form.cleaned_data["password"])
    except ValidationError as error:
        add_errors(form, error)
    if form.errors:
        return render_profile(request, password=form)
    update_session_auth_hash(request, user)  # makes this session anew, with another key
    note_session(
        user=user,
        session_key=str(request.session.session_key),
        address=request.META.get("REMOTE_ADDR") or "",
        user_agent=request.META.get("HTTP_USER_AGENT", ""),
    )
    messages.success(request, "Your password is changed. You were signed out everywhere else.")
    return redirect("profile")


@own_page
@require_POST
def end_one_session(request: PageRequest, session_id: int) -> HttpResponseBase:
    """Sign the person out in one other place."""
    user = person(request)
    if end_session(actor=actor_for(user), user=user, session_id=session_id):
        messages.success(request, "Signed out there.")
    return redirect("profile")


@own_page
@require_POST
def end_other_sessions(request: PageRequest) -> HttpResponseBase:
    """Sign the person out everywhere but here."""
    user = person(request)
    end_sessions(actor=actor_for(user), user=user, except_key=str(request.session.session_key))
    messages.success(request, "You were signed out everywhere else.")
    return redirect("profile")


def person(request: PageRequest) -> User:
    """Return who is signed in."""
    return cast("User", request.user)


def render_profile(
    request: PageRequest, *, details: DetailsForm | None = None, password: ChangePasswordForm | None = None
) -> HttpResponseBase:
    """Show the page with forms that were filled in, or with what is known."""
    user = person(request)
    known = {name: getattr(user, name) for name in ("first_name", "last_name", "email")}
    context: dict[str, Any] = {
        "details": details or DetailsForm(initial=known),
        "password": password or ChangePasswordForm(),
        "sessions": list_sessions(user),
        "session_key": request.session.session_key,
        "teams": user.groups.order_by("name"),
        "provided_by": provider_names(user),
        **describe_factors(user),
    }
    return render(request, "accounts/profile.html", context, status=UNUSABLE if details or password else 200)


def describe_factors(user: User) -> dict[str, Any]:
    """Return the person's second factors for the page; of recovery codes how many are left."""
    found = list(Authenticator.objects.filter(user=user).order_by("created_at"))
    kinds = Authenticator.Type
    codes = next((one.wrap().get_unused_codes() for one in found if one.type == kinds.RECOVERY_CODES), None)
    return {
        "app": next((one for one in found if one.type == kinds.TOTP), None),
        "passkeys": [(one, one.wrap()) for one in found if one.type == kinds.WEBAUTHN],
        "codes_left": None if codes is None else len(codes),
    }


def provider_names(user: User) -> list[str]:
    """Return the names of the providers by which the person signs in."""
    names = {provider.id: provider.name for provider in settings.CORRAL.oidc_providers}
    used = SocialAccount.objects.filter(user=user).values_list("provider", flat=True)
    return [names.get(provider, provider) for provider in used]
