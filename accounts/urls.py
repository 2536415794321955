"""Routes of the pages about people."""

from __future__ import annotations

from django.urls import URLPattern, path

from accounts.pages import page_routes, public
from accounts.views import audit, joining, people, profile, quotas, teams
from accounts.views.identity import urlpatterns as identity_routes
from accounts.views.signing_in import SignInView, SignOutView, set_up

sign_in = public(SignInView.as_view())
sign_out = public(SignOutView.as_view())

urlpatterns: list[URLPattern] = [
    *page_routes("login/", sign_in, "login"),
    path("login/", sign_in, name="account_login"),  # allauth's own names of the same
    *page_routes("logout/", sign_out, "logout"),
    path("logout/", sign_out, name="account_logout"),
    *page_routes("setup/<str:token>/", set_up, "setup"),
    *page_routes("limits/", quotas.show_limits, "limits"),
    *page_routes("limits/<int:pk>/delete/", quotas.delete_limit, "limit-delete"),
    *page_routes("audit/", audit.show_audit, "audit"),
    *page_routes("audit/export/", audit.export_audit, "audit-export"),
    *page_routes("audit/<int:pk>/", audit.show_entry, "audit-entry"),
    *page_routes("invitation/<str:token>/", joining.accept, "invitation"),
    *page_routes("register/", joining.join, "register"),
    *identity_routes,
    *page_routes("profile/", profile.show, "profile"),
    path("profile/", profile.show, name="mfa_index"),
    path("profile/", profile.show, name="mfa_list_webauthn"),
    *page_routes("profile/details/", profile.save_details, "profile-details"),
    *page_routes("profile/password/", profile.save_password, "profile-password"),
    *page_routes("profile/sessions/end/", profile.end_other_sessions, "sessions-end"),
    *page_routes("profile/sessions/<int:session_id>/end/", profile.end_one_session, "session-end"),
    *page_routes("people/", people.show_list, "people"),
    *page_routes("people/invite/", people.invite, "invite"),
    *page_routes("people/invitations/<int:invitation_id>/withdraw/", people.withdraw, "invitation-withdraw"),
    *page_routes("people/<int:user_id>/", people.show_person, "person"),
    *page_routes("people/<int:user_id>/role/", people.save_role, "person-role"),
    *page_routes("people/<int:user_id>/activate/", people.activate, "person-activate"),
    *page_routes("people/<int:user_id>/deactivate/", people.deactivate, "person-deactivate"),
    *page_routes("people/<int:user_id>/password/", people.reset_password, "person-password"),
    *page_routes("people/<int:user_id>/second-factors/remove/", people.remove_second_factors, "person-factors"),
    *page_routes("people/<int:user_id>/delete/", people.delete, "person-delete"),
    *page_routes("teams/", teams.show_list, "teams"),
    *page_routes("teams/<int:team_id>/", teams.show, "team"),
    *page_routes("teams/<int:team_id>/rename/", teams.rename, "team-rename"),
    *page_routes("teams/<int:team_id>/delete/", teams.delete, "team-delete"),
    *page_routes("teams/<int:team_id>/members/", teams.add_member, "team-add"),
    *page_routes("teams/<int:team_id>/members/<int:user_id>/remove/", teams.remove_member, "team-remove"),
    *page_routes("teams/<int:team_id>/members/<int:user_id>/manager/", teams.set_manager, "team-manager"),
]
