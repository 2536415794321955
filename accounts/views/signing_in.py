"""Pages for signing in and out, and the first administrator."""

from __future__ import annotations

from typing import Any

from allauth.account.views import LoginView
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.views import LogoutView
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods
from redis.exceptions import RedisError

from accounts.domain.setup import check_setup_token, create_first_admin, is_set_up
from accounts.enums import Registration
from accounts.errors import SetupRefused
from accounts.forms import NewAccountForm, add_errors
from accounts.pages import UNUSABLE, public, refuse_for_now

WAIT_S = 300
"""How long who tried too often had better wait; the window of the limit on failures (see the settings)."""


class SignInView(LoginView):  # type: ignore[misc]  # allauth has no types
    """The sign-in page. Who is signed in already goes on to the instances."""

    template_name = "accounts/login.html"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Refuse to check passwords while nobody counts the attempts."""
        try:
            response: HttpResponseBase = super().dispatch(request, *args, **kwargs)
        except RedisError:
            return refuse_for_now(request)
        return response

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Add whether an administrator exists, and the other ways in."""
        return {
            **super().get_context_data(**kwargs),
            "is_set_up": is_set_up(),
            "providers": settings.CORRAL.oidc_providers,
            "may_register": settings.CORRAL.registration != Registration.OFF,
        }

    def form_invalid(self, form: Any) -> HttpResponse:
        """Show the form again, with the status of content that can't be used (RFC 9110, 15.5.21), or of too much."""
        response: HttpResponse = self.render_to_response(self.get_context_data(form=form), status=UNUSABLE)
        if form.has_error("__all__", "too_many_login_attempts"):
            response.status_code = 429
            response["Retry-After"] = str(WAIT_S)
        return response


@method_decorator(never_cache, name="dispatch")
class SignOutView(LogoutView):
    """Signing out; POST only."""


@public
@never_cache
@sensitive_post_parameters("password", "password_again")
@require_http_methods(["GET", "HEAD", "POST"])
def set_up(request: HttpRequest, token: str) -> HttpResponse:
    """Make the first administrator by the link that the console printed, and sign them in."""
    form = NewAccountForm(request.POST or None)
    try:
        check_setup_token(token)
        if form.is_valid():
            names = form.cleaned_data
            user = create_first_admin(token=token, username=names["username"], password=names["password"])
            login(request, user)
            messages.success(request, f"Welcome, {user.get_username()}. Create your first instance now.")
            return redirect("instance-list")
    except SetupRefused as error:
        return render(request, "accounts/setup_refused.html", {"reason": str(error)}, status=error.status)
    except ValidationError as error:
        add_errors(form, error)
    return render(request, "accounts/setup.html", {"form": form}, status=UNUSABLE if form.is_bound else 200)
