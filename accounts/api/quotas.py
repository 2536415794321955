"""``/api/v1/quotas``: limits and what is left of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.base import ManagementView
from accounts.api.errors import InvalidBody
from accounts.api.parsers import read_json
from accounts.api.schema import errors
from accounts.domain.people import find_user
from accounts.domain.quota_search import QuotaState, find_holder, find_quota, list_all, list_limits_of
from accounts.domain.quotas import LARGEST, change_quota, delete_quota, set_quota
from accounts.domain.rights import is_manager_of_people
from accounts.enums import QuotaUnit, QuotaWindow
from accounts.errors import NotAllowed, PersonNotFound, QuotaRefused


class QuotaSerializer(serializers.Serializer[Any]):
    """A limit and what is left of it, about a second behind."""

    id = serializers.IntegerField()
    user = serializers.CharField(allow_null=True, help_text="Whom it limits; all null: each person who has none.")
    team = serializers.CharField(allow_null=True, help_text="All its members together.")
    key = serializers.CharField(allow_null=True, help_text="Name and first characters.")
    key_id = serializers.IntegerField(allow_null=True)
    unit = serializers.ChoiceField(choices=QuotaUnit.choices)
    window = serializers.ChoiceField(choices=QuotaWindow.choices, help_text="In UTC.")
    limit = serializers.IntegerField(allow_null=True, help_text="Null: not limited, whatever everybody's limit is.")
    used = serializers.IntegerField(allow_null=True, help_text="Null where it counts for each person apart.")
    remaining = serializers.IntegerField(allow_null=True)
    resets_at = serializers.IntegerField(allow_null=True, help_text="Unix seconds.")


class QuotaPatchSerializer(serializers.Serializer[Any]):
    """Another limit."""

    limit = serializers.IntegerField(min_value=0, max_value=LARGEST, allow_null=True)


class QuotaRequestSerializer(QuotaPatchSerializer):
    """A limit to set; with neither a user nor a team it is each person's who has none. Keys have theirs with them."""

    user = serializers.CharField(required=False)
    team = serializers.CharField(required=False)
    unit = serializers.ChoiceField(choices=QuotaUnit.choices)
    window = serializers.ChoiceField(choices=QuotaWindow.choices)


class QuotaListView(ManagementView):
    """``/api/v1/quotas``."""

    @extend_schema(
        operation_id="list_quotas",
        tags=["quotas"],
        parameters=[OpenApiParameter("user", OpenApiTypes.STR, description="What counts for this person.")],
        responses={200: QuotaSerializer(many=True), **errors(403, 404)},
    )
    def get(self, request: Request) -> Response:
        """List what limits the caller and their keys; for administrators all limits there are."""
        actor = self.actor
        name = request.query_params.get("user", "").replace("\0", "")
        own = actor.user.get_username() if actor.user is not None else ""
        if not name and is_manager_of_people(actor):
            return Response([present_quota(state) for state in list_all()])
        if name not in ("", own) and not is_manager_of_people(actor):
            raise NotAllowed("Only administrators may see the limits of others.")
        person = find_user(name or own)
        if person is None:
            raise PersonNotFound(f"user: there is nobody called {name[:150]!r}.")
        return Response([present_quota(QuotaState(use.limit.quota, use)) for use in list_limits_of(person)])

    @extend_schema(
        operation_id="set_quota",
        tags=["quotas"],
        request=QuotaRequestSerializer,
        responses={201: QuotaSerializer, **errors(400, 403, 413)},
    )
    def post(self, request: Request) -> Response:
        """Set a limit, or another one where there is one already; for administrators. It counts at once."""
        body = read_object(request)
        texts = {name: read_text(body, name) for name in ("user", "team", "unit", "window")}
        user, group = find_holder(user=texts["user"], team=texts["team"])
        limit = read_limit(body)
        quota = set_quota(
            actor=self.actor, unit=texts["unit"], window=texts["window"], limit=limit, user=user, group=group
        )
        return Response(present_quota(QuotaState(quota, None)), status=201)


class QuotaView(ManagementView):
    """``/api/v1/quotas/{id}``."""

    @extend_schema(
        operation_id="change_quota",
        tags=["quotas"],
        request=QuotaPatchSerializer,
        responses={200: QuotaSerializer, **errors(400, 403, 404, 413)},
    )
    def patch(self, request: Request, pk: int) -> Response:
        """Change how much may be used; for administrators."""
        quota = find_quota(self.actor, pk)
        changed = change_quota(actor=self.actor, quota=quota, limit=read_limit(read_object(request)))
        return Response(present_quota(QuotaState(changed, None)))

    @extend_schema(
        operation_id="delete_quota",
        tags=["quotas"],
        responses={204: OpenApiResponse(description="Gone."), **errors(403, 404)},
    )
    def delete(self, request: Request, pk: int) -> Response:
        """End a limit; for administrators."""
        delete_quota(actor=self.actor, quota=find_quota(self.actor, pk))
        return Response(status=204)


def read_object(request: Request) -> Mapping[str, Any]:
    """Return the body; raise InvalidBody unless it is an object."""
    body = read_json(request)
    if not isinstance(body, Mapping):
        raise InvalidBody("it must be a JSON object.")
    return body


def read_text(body: Mapping[str, Any], name: str) -> str:
    """Return a text of the body, empty when it is absent or null; raise QuotaRefused for another type."""
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise QuotaRefused(f"{name}: it must be a text.")
    return value or ""


def read_limit(body: Mapping[str, Any]) -> int | None:
    """Return the limit; raise QuotaRefused when it is absent or no whole number."""
    limit = body.get("limit", "")
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool)):
        raise QuotaRefused(f"limit: it must be a whole number from 0 to {LARGEST}, or null for none.")
    return limit


def present_quota(state: QuotaState) -> dict[str, Any]:
    """Return a limit as JSON."""
    quota, use = state.quota, state.use
    return {
        "id": quota.pk,
        "user": quota.user.get_username() if quota.user is not None else None,
        "team": quota.group.name if quota.group is not None else None,
        "key": str(quota.key) if quota.key is not None else None,
        "key_id": quota.key_id,
        "unit": quota.unit,
        "window": quota.window,
        "limit": quota.limit,
        "used": use.used if use is not None else None,
        "remaining": use.remaining if use is not None else None,
        "resets_at": int(use.resets_at.timestamp()) if use is not None else None,
    }
