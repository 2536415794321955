"""Whom an instance is shared with, and whose it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.contrib.auth.models import Group
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.base import ManagementView
from accounts.api.errors import InvalidBody
from accounts.api.parsers import read_json
from accounts.api.schema import errors
from accounts.models import User
from instances.api.presentation import present_one, wants_integer_status
from instances.api.schema import NAME, STATUS_FORMAT
from instances.api.serializers import InstanceSerializer, LevelSerializer, OwnerSerializer, ShareSerializer
from instances.domain.access import find_managed
from instances.domain.sharing import (
    change_owner,
    find_person,
    find_team,
    list_shares,
    read_level,
    share_instance,
    unshare_instance,
)
from instances.models import InstanceShare

USER = OpenApiParameter("user", OpenApiTypes.STR, OpenApiParameter.PATH, description="Name of a person.")
TEAM = OpenApiParameter("team", OpenApiTypes.STR, OpenApiParameter.PATH, description="Name of a team.")


class ShareListView(ManagementView):
    """``/api/v1/instances/{name}/shares``."""

    @extend_schema(
        operation_id="list_shares",
        tags=["sharing"],
        parameters=[NAME],
        responses={200: ShareSerializer(many=True), **errors(400, 403, 404)},
    )
    def get(self, request: Request, name: str) -> Response:
        """List whom an instance is shared with, people first."""
        shares = list_shares(actor=self.actor, instance=find_managed(self.actor, name))
        return Response([present_share(share) for share in shares])


class ShareView(ManagementView):
    """Base of the views of one share."""

    def share(self, request: Request, name: str, find: Callable[[str], User | Group], holder: str) -> Response:
        """Share with somebody, or change the level."""
        instance = find_managed(self.actor, name)
        level = read_level(read_object(request).get("level"))
        found = share_instance(actor=self.actor, instance=instance, holder=find(holder), level=level)
        return Response(present_share(found))

    def unshare(self, name: str, find: Callable[[str], User | Group], holder: str) -> Response:
        """Take a share back."""
        instance = find_managed(self.actor, name)
        unshare_instance(actor=self.actor, instance=instance, holder=find(holder))
        return Response(status=204)


class UserShareView(ShareView):
    """``/api/v1/instances/{name}/shares/users/{user}``."""

    @extend_schema(
        operation_id="share_with_user",
        tags=["sharing"],
        parameters=[NAME, USER],
        request=LevelSerializer,
        responses={200: ShareSerializer, **errors(400, 403, 404, 413)},
    )
    def put(self, request: Request, name: str, user: str) -> Response:
        """Share an instance with a person, or change what they may do with it."""
        return self.share(request, name, find_person, user)

    @extend_schema(
        operation_id="unshare_with_user",
        tags=["sharing"],
        parameters=[NAME, USER],
        responses={
            204: OpenApiResponse(description="They have no share of their own any more."),
            **errors(400, 403, 404),
        },
    )
    def delete(self, request: Request, name: str, user: str) -> Response:
        """Take a person's share back; what they have open by it ends."""
        return self.unshare(name, find_person, user)


class TeamShareView(ShareView):
    """``/api/v1/instances/{name}/shares/teams/{team}``."""

    @extend_schema(
        operation_id="share_with_team",
        tags=["sharing"],
        parameters=[NAME, TEAM],
        request=LevelSerializer,
        responses={200: ShareSerializer, **errors(400, 403, 404, 413)},
    )
    def put(self, request: Request, name: str, team: str) -> Response:
        """Share an instance with a team, or change what it may do with it."""
        return self.share(request, name, find_team, team.rstrip("/"))

    @extend_schema(
        operation_id="unshare_with_team",
        tags=["sharing"],
        parameters=[NAME, TEAM],
        responses={204: OpenApiResponse(description="The team has no share any more."), **errors(400, 403, 404)},
    )
    def delete(self, request: Request, name: str, team: str) -> Response:
        """Take a team's share back; what its members have open by it ends."""
        return self.unshare(name, find_team, team.rstrip("/"))


class OwnerView(ManagementView):
    """``/api/v1/instances/{name}/owner``."""

    @extend_schema(
        operation_id="change_owner",
        tags=["sharing"],
        parameters=[NAME, STATUS_FORMAT],
        request=OwnerSerializer,
        responses={200: InstanceSerializer, **errors(400, 403, 404, 413)},
    )
    def put(self, request: Request, name: str) -> Response:
        """Give an instance to another person."""
        wants_integer_status(request)
        instance = find_managed(self.actor, name)
        owner = read_object(request).get("owner")
        if not isinstance(owner, str) or not owner:
            raise InvalidBody("owner must be the name of a person.")
        row = change_owner(actor=self.actor, instance=instance, owner=find_person(owner))
        return Response(present_one(row, actor=self.actor, request=request))


def read_object(request: Request) -> Mapping[str, Any]:
    """Return the body, a JSON object; raise InvalidBody for anything else."""
    body = read_json(request)
    if not isinstance(body, Mapping):
        raise InvalidBody("it must be a JSON object.")
    return body


def present_share(share: InstanceShare) -> dict[str, Any]:
    """Return a share as JSON."""
    return {
        "user": share.user.get_username() if share.user else None,
        "team": share.group.name if share.group else None,
        "level": share.level,
    }
