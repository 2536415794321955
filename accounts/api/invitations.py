"""Invitations by link."""

from __future__ import annotations

from typing import Any

from django.urls import reverse
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.base import ManagementView
from accounts.api.bodies import read_body
from accounts.api.schema import errors
from accounts.api.serializers_people import InvitationSerializer, MadeInvitationSerializer, NewInvitationSerializer
from accounts.domain.invitations import create_invitation, visible_invitations, withdraw_invitation
from accounts.domain.teams import find_team
from accounts.enums import Role
from accounts.models import Invitation


class InvitationListView(ManagementView):
    """``/api/v1/invitations``."""

    @extend_schema(
        operation_id="list_invitations",
        tags=["people"],
        responses={200: InvitationSerializer(many=True), **errors()},
    )
    def get(self, request: Request) -> Response:
        """List open invitations: all for administrators, else those into teams that the caller manages."""
        return Response([present_invitation(one) for one in visible_invitations(self.actor).open()])

    @extend_schema(
        operation_id="create_invitation",
        tags=["people"],
        request=NewInvitationSerializer,
        responses={201: MadeInvitationSerializer, **errors(400, 403, 404, 413)},
    )
    def post(self, request: Request) -> Response:
        """Make an invitation. Managers of a team may invite members into it, administrators everybody."""
        given = read_body(request, NewInvitationSerializer)
        team = find_team(self.actor, given["team"]) if given.get("team") else None
        invitation, token = create_invitation(
            actor=self.actor, role=Role(given["role"]), team=team, note=given["note"], days=given["days"]
        )
        link = request.build_absolute_uri(reverse("invitation", args=[token]))
        return Response({**present_invitation(invitation), "link": link}, status=201)


class InvitationView(ManagementView):
    """``/api/v1/invitations/{invitation_id}``."""

    @extend_schema(
        operation_id="withdraw_invitation",
        tags=["people"],
        responses={204: OpenApiResponse(description="It can't be accepted any more."), **errors(403, 404)},
    )
    def delete(self, request: Request, invitation_id: int) -> Response:
        """End an invitation that nobody has accepted."""
        withdraw_invitation(actor=self.actor, invitation_id=invitation_id)
        return Response(status=204)


def present_invitation(invitation: Invitation) -> dict[str, Any]:
    """Return an invitation as the API shows it, without its token, which nobody has kept."""
    return {
        "id": invitation.pk,
        "role": invitation.role,
        "team": invitation.team_id,
        "note": invitation.note,
        "created_by": invitation.created_by.get_username() if invitation.created_by else None,
        "expires": int(invitation.expires_at.timestamp()),
    }
