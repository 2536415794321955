"""Teams and their members."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.base import ManagementView
from accounts.api.bodies import read_body
from accounts.api.schema import errors
from accounts.api.serializers_people import (
    MemberSerializer,
    MembershipSerializer,
    TeamNameSerializer,
    TeamSerializer,
)
from accounts.domain import teams
from accounts.domain.people import find_user
from accounts.domain.rights import require_team_manager
from accounts.errors import PersonNotFound
from accounts.models import Team, User

USERNAME = OpenApiParameter("username", OpenApiTypes.STR, OpenApiParameter.PATH, description="Name of a person.")


class TeamListView(ManagementView):
    """``/api/v1/teams``."""

    @extend_schema(operation_id="list_teams", tags=["teams"], responses={200: TeamSerializer(many=True), **errors()})
    def get(self, request: Request) -> Response:
        """List the teams that the caller is in, for administrators all, by name."""
        return Response([present_team(team) for team in teams.visible_teams(self.actor)])

    @extend_schema(
        operation_id="create_team",
        tags=["teams"],
        request=TeamNameSerializer,
        responses={201: TeamSerializer, **errors(400, 403, 409, 413)},
    )
    def post(self, request: Request) -> Response:
        """Make a team. Administrators only."""
        team = teams.create_team(actor=self.actor, name=read_body(request, TeamNameSerializer)["name"])
        return Response(present_team(team), status=201)


class TeamView(ManagementView):
    """``/api/v1/teams/{team_id}``."""

    @extend_schema(operation_id="get_team", tags=["teams"], responses={200: TeamSerializer, **errors(404)})
    def get(self, request: Request, team_id: int) -> Response:
        """Show a team."""
        return Response(present_team(teams.find_team(self.actor, team_id)))

    @extend_schema(
        operation_id="rename_team",
        tags=["teams"],
        request=TeamNameSerializer,
        responses={200: TeamSerializer, **errors(400, 403, 404, 409, 413)},
    )
    def patch(self, request: Request, team_id: int) -> Response:
        """Give a team another name. Administrators only."""
        team = teams.find_team(self.actor, team_id)
        teams.rename_team(actor=self.actor, team=team, name=read_body(request, TeamNameSerializer)["name"])
        return Response(present_team(team))

    @extend_schema(
        operation_id="delete_team",
        tags=["teams"],
        responses={204: OpenApiResponse(description="Gone."), **errors(403, 404)},
    )
    def delete(self, request: Request, team_id: int) -> Response:
        """Delete a team; its members stay, what is shared with it is no longer shared. Administrators only."""
        teams.delete_team(actor=self.actor, team=teams.find_team(self.actor, team_id))
        return Response(status=204)


class MemberListView(ManagementView):
    """``/api/v1/teams/{team_id}/members``."""

    @extend_schema(
        operation_id="list_members", tags=["teams"], responses={200: MemberSerializer(many=True), **errors(404)}
    )
    def get(self, request: Request, team_id: int) -> Response:
        """List who is in a team, by name."""
        team = teams.find_team(self.actor, team_id)
        managers = set(team.managers.values_list("pk", flat=True))
        return Response([present_member(user, manages=user.pk in managers) for user in team.members])


class MemberView(ManagementView):
    """``/api/v1/teams/{team_id}/members/{username}``."""

    @extend_schema(
        operation_id="put_member",
        tags=["teams"],
        parameters=[USERNAME],
        request=MembershipSerializer,
        responses={200: MemberSerializer, **errors(400, 403, 404, 413)},
    )
    def put(self, request: Request, team_id: int, username: str) -> Response:
        """Put somebody into a team (managers: no administrators), or make them a manager (administrators only)."""
        team = teams.find_team(self.actor, team_id)
        given = read_body(request, MembershipSerializer)
        user = find_named(username)
        with transaction.atomic():
            teams.add_member(actor=self.actor, team=team, user=user)
            if "manager" in given:
                teams.set_manager(actor=self.actor, team=team, user=user, manages=given["manager"])
        return Response(present_member(user, manages=team.managers.filter(pk=user.pk).exists()))

    @extend_schema(
        operation_id="delete_member",
        tags=["teams"],
        parameters=[USERNAME],
        responses={204: OpenApiResponse(description="Not in the team."), **errors(403, 404)},
    )
    def delete(self, request: Request, team_id: int, username: str) -> Response:
        """Take somebody out of a team (managers, administrators), or leave it yourself."""
        actor, team = self.actor, teams.find_team(self.actor, team_id)
        if actor.user is None or actor.user.get_username() != username:
            require_team_manager(actor, team)  # before it is told who exists
        teams.remove_member(actor=actor, team=team, user=find_named(username))
        return Response(status=204)


def find_named(username: str) -> User:
    """Return the person with this name; raise PersonNotFound."""
    user = find_user(username.replace("\0", "?"))
    if user is None:
        raise PersonNotFound(f"There is no user {username[:150]}.")
    return user


def present_team(team: Team) -> dict[str, Any]:
    """Return a team as the API shows it."""
    return {
        "id": team.pk,
        "name": team.name,
        "members": team.members.count(),
        "created": int(team.created_at.timestamp()),
    }


def present_member(user: User, *, manages: bool) -> dict[str, Any]:
    """Return somebody in a team as the API shows them."""
    return {"id": user.pk, "username": user.username, "manager": manages}
