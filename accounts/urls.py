"""Routes of the pages about people."""

from __future__ import annotations

from django.urls import URLPattern

from accounts.pages import page_routes, public
from accounts.views import SignInView, SignOutView, set_up

urlpatterns: list[URLPattern] = [
    *page_routes("login/", public(SignInView.as_view()), "login"),
    *page_routes("logout/", public(SignOutView.as_view()), "logout"),
    *page_routes("setup/<str:token>/", set_up, "setup"),
]
