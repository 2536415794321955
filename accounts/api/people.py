"""People, for administrators."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.base import ManagementView
from accounts.api.bodies import read_body
from accounts.api.lists import PAGING, page_rows
from accounts.api.schema import errors
from accounts.api.serializers_people import NewUserSerializer, UserPatchSerializer, UserSerializer
from accounts.domain.leaving import activate_user, deactivate_user, delete_user
from accounts.domain.people import change_details, change_role, create_user, find_user, get_user, set_password
from accounts.domain.rights import require_admin, require_admin_to_change
from accounts.domain.teams import find_team
from accounts.enums import Role
from accounts.errors import InvalidPerson
from accounts.models import User


class UserListView(ManagementView):
    """``/api/v1/users``."""

    @extend_schema(
        operation_id="list_users",
        tags=["people"],
        parameters=PAGING,
        responses={200: UserSerializer(many=True), **errors(400, 403)},
    )
    def get(self, request: Request) -> Response:
        """List people by name."""
        require_admin(self.actor)
        page, headers = page_rows(User.objects.prefetch_related("groups").order_by("username"), request)
        return Response([present_user(user) for user in page], headers=headers)

    @extend_schema(
        operation_id="create_user",
        tags=["people"],
        request=NewUserSerializer,
        responses={201: UserSerializer, **errors(400, 403, 404, 413)},
    )
    def post(self, request: Request) -> Response:
        """Make a person."""
        require_admin_to_change(self.actor)
        given = read_body(request, NewUserSerializer)
        teams = [find_team(self.actor, team_id) for team_id in given["teams"]]
        user = create_user(
            actor=self.actor,
            username=given["username"],
            password=given.get("password"),
            role=Role(given["role"]),
            email=given["email"],
            teams=teams,
        )
        return Response(present_user(user), status=201)


class UserView(ManagementView):
    """``/api/v1/users/{user_id}``."""

    @extend_schema(operation_id="get_user", tags=["people"], responses={200: UserSerializer, **errors(403, 404)})
    def get(self, request: Request, user_id: int) -> Response:
        """Show a person."""
        return Response(present_user(get_user(self.actor, user_id)))

    @extend_schema(
        operation_id="change_user",
        tags=["people"],
        request=UserPatchSerializer,
        responses={200: UserSerializer, **errors(400, 403, 404, 409, 413)},
    )
    def patch(self, request: Request, user_id: int) -> Response:
        """Change a person; all of it or, when a part is refused, nothing."""
        user, actor = get_user(self.actor, user_id), self.actor
        given = read_body(request, UserPatchSerializer, partial=True)
        with transaction.atomic():
            if "role" in given:
                change_role(actor=actor, user=user, role=Role(given.pop("role")))
            if "password" in given:
                set_password(actor=actor, user=user, password=given.pop("password"))
            active = given.pop("active", None)
            change_details(actor=actor, user=user, **given)
            if active is not None:
                (activate_user if active else deactivate_user)(actor=actor, user=user)
        return Response(present_user(user))

    @extend_schema(
        operation_id="delete_user",
        tags=["people"],
        parameters=[
            OpenApiParameter("heir", OpenApiTypes.STR, description="Who gets their instances; default: who deletes."),
        ],
        responses={204: OpenApiResponse(description="Gone."), **errors(400, 403, 404, 409)},
    )
    def delete(self, request: Request, user_id: int) -> Response:
        """Delete a person with their keys; their instances pass to the heir."""
        user, name = get_user(self.actor, user_id), request.query_params.get("heir", "").replace("\0", "?")
        heir = find_user(name) if name else None
        if name and heir is None:
            raise InvalidPerson(f"heir: there is no user {name[:150]}.")
        delete_user(actor=self.actor, user=user, heir=heir)
        return Response(status=204)


def present_user(user: User) -> dict[str, Any]:
    """Return a person as the API shows them."""
    return {
        "id": user.pk,
        "username": user.username,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "email": user.email,
        "role": user.role,
        "active": user.is_active,
        "awaits_approval": user.awaits_approval,
        "teams": sorted(group.name for group in user.groups.all()),
        "created": int(user.date_joined.timestamp()),
        "last_sign_in": int(user.last_login.timestamp()) if user.last_login else None,
    }
