"""Routes of people below ``/api/v1/``."""

from __future__ import annotations

from accounts.api.invitations import InvitationListView, InvitationView
from accounts.api.people import UserListView, UserView
from accounts.api.routes import both
from accounts.api.teams import MemberListView, MemberView, TeamListView, TeamView

urlpatterns = [
    *both("users", UserListView, "api-user-list"),
    *both("users/<int:user_id>", UserView, "api-user"),
    *both("teams", TeamListView, "api-team-list"),
    *both("teams/<int:team_id>", TeamView, "api-team"),
    *both("teams/<int:team_id>/members", MemberListView, "api-member-list"),
    *both("teams/<int:team_id>/members/<str:username>", MemberView, "api-member"),
    *both("invitations", InvitationListView, "api-invitation-list"),
    *both("invitations/<int:invitation_id>", InvitationView, "api-invitation"),
]
