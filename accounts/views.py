"""Pages about people: signing in and out, and the first administrator."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.views import LoginView, LogoutView
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from accounts.domain.setup import check_setup_token, create_first_admin, is_set_up
from accounts.errors import SetupRefused
from accounts.forms import SetupForm, SignInForm
from accounts.pages import public


class SignInView(LoginView):
    """The sign-in page. Who is signed in already goes on to the instances."""

    template_name = "accounts/login.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Add whether anybody could sign in at all."""
        return {**super().get_context_data(**kwargs), "is_set_up": is_set_up()}

    def form_invalid(self, form: Any) -> HttpResponse:
        """Show the form again, with the status of content that can't be used (RFC 9110, 15.5.21)."""
        return self.render_to_response(self.get_context_data(form=form), status=422)


@method_decorator(never_cache, name="dispatch")
class SignOutView(LogoutView):
    """Signing out; POST only."""


@public
@never_cache
@sensitive_post_parameters("password", "password_again")
@require_http_methods(["GET", "HEAD", "POST"])
def set_up(request: HttpRequest, token: str) -> HttpResponse:
    """Make the first administrator by the link that the console printed, and sign them in."""
    form = SetupForm(request.POST or None)
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
    return render(request, "accounts/setup.html", {"form": form}, status=422 if form.is_bound else 200)


def add_errors(form: SetupForm, error: ValidationError) -> None:
    """Put the domain's complaints beside the fields they are about; those without a name are about the password."""
    faults = error.message_dict if hasattr(error, "error_dict") else {"password": error.messages}
    for name, sentences in faults.items():
        for sentence in sentences:
            form.add_error(name if name in form.fields else None, sentence)
