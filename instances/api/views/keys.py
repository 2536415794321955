"""API keys: llamactl's five endpoints, and changing, rotating and revoking."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db.models import prefetch_related_objects
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.base import ManagementView
from accounts.api.errors import InvalidBody
from accounts.api.lists import page_rows, read_words
from accounts.api.parsers import decode_json, read_bounded
from accounts.api.schema import errors
from accounts.enums import PermissionMode
from accounts.errors import KeyRefused
from accounts.models import ApiKey
from instances.api.serializers_keys import (
    CreatedKeySerializer,
    KeyPatchSerializer,
    KeyRequestSerializer,
    KeySerializer,
    PermissionSerializer,
    RotationSerializer,
)
from instances.domain.access import visible_instances
from instances.domain.key_requests import read_key_id, read_key_request
from instances.domain.keys import (
    change_key,
    create_key,
    delete_key,
    find_key,
    listed_instances,
    revoke_key,
    rotate_key,
    visible_keys,
)

ID = OpenApiParameter("key_id", OpenApiTypes.STR, OpenApiParameter.PATH, description="The key's number.")


class KeyListView(ManagementView):
    """``/api/v1/auth/keys``."""

    @extend_schema(
        operation_id="list_keys",
        tags=["keys"],
        parameters=[
            OpenApiParameter("user", OpenApiTypes.STR, description="Names of owners."),
            OpenApiParameter("limit", OpenApiTypes.INT, description="At most so many; adds X-Total-Count and Link."),
            OpenApiParameter("offset", OpenApiTypes.INT, description="Leave out so many first."),
        ],
        responses={200: KeySerializer(many=True), **errors(400)},
    )
    def get(self, request: Request) -> Response:
        """List the caller's keys, newest first; an administrator's list has everybody's."""
        keys = visible_keys(self.actor)
        if words := read_words(request, "user"):
            keys = keys.filter(user__username__in=words)
        page, headers = page_rows(keys, request)
        return Response(present_keys(list(page)), headers=headers)

    @extend_schema(
        operation_id="create_key",
        tags=["keys"],
        request=KeyRequestSerializer,
        responses={201: CreatedKeySerializer, **errors(400, 403, 413)},
    )
    def post(self, request: Request) -> Response:
        """Make a key. Its secret is in this answer and never shown again."""
        values = read_key_request(read_body(request), is_new=True)
        key, secret = create_key(actor=self.actor, values=values)
        return Response({**present_keys([key])[0], "key": secret}, status=201)


class KeyView(ManagementView):
    """``/api/v1/auth/keys/{id}``."""

    @extend_schema(
        operation_id="get_key", tags=["keys"], parameters=[ID], responses={200: KeySerializer, **errors(400, 404)}
    )
    def get(self, request: Request, key_id: str) -> Response:
        """Show a key, without its secret."""
        return Response(present_keys([find_key(self.actor, read_key_id(key_id))])[0])

    @extend_schema(
        operation_id="change_key",
        tags=["keys"],
        parameters=[ID],
        request=KeyPatchSerializer,
        responses={200: KeySerializer, **errors(400, 403, 404, 409, 413)},
    )
    def patch(self, request: Request, key_id: str) -> Response:
        """Change the given members only. It counts at once."""
        key = find_key(self.actor, read_key_id(key_id))
        values = read_key_request(read_body(request), is_new=False)
        return Response(present_keys([change_key(actor=self.actor, key=key, values=values)])[0])

    @extend_schema(
        operation_id="delete_key",
        tags=["keys"],
        parameters=[ID],
        responses={204: OpenApiResponse(description="Gone."), **errors(400, 403, 404)},
    )
    def delete(self, request: Request, key_id: str) -> Response:
        """Delete a key; it dies at once."""
        delete_key(actor=self.actor, key=find_key(self.actor, read_key_id(key_id)))
        return Response(status=204)


class KeyPermissionsView(ManagementView):
    """``/api/v1/auth/keys/{id}/permissions``."""

    @extend_schema(
        operation_id="list_key_permissions",
        tags=["keys"],
        parameters=[ID],
        responses={200: PermissionSerializer(many=True), **errors(400, 404)},
    )
    def get(self, request: Request, key_id: str) -> Response:
        """List the instances that a key of mode `per_instance` opens, by number; none for `allow_all`."""
        ids = listed_instances(find_key(self.actor, read_key_id(key_id)))
        names = dict(visible_instances(self.actor).filter(pk__in=ids).values_list("pk", "name"))
        return Response([{"instance_id": pk, "instance_name": names.get(pk, "")} for pk in ids])


class KeyRotationView(ManagementView):
    """``/api/v1/auth/keys/{id}/rotate``."""

    @extend_schema(
        operation_id="rotate_key",
        tags=["keys"],
        parameters=[ID],
        request=RotationSerializer,
        responses={200: CreatedKeySerializer, **errors(400, 403, 404, 409, 413)},
    )
    def post(self, request: Request, key_id: str) -> Response:
        """Give a key a new secret; the old one dies at once, or after `grace` seconds."""
        key = find_key(self.actor, read_key_id(key_id))
        secret = rotate_key(actor=self.actor, key=key, grace=read_grace(request))
        return Response({**present_keys([key])[0], "key": secret})


class KeyRevocationView(ManagementView):
    """``/api/v1/auth/keys/{id}/revoke``."""

    @extend_schema(
        operation_id="revoke_key",
        tags=["keys"],
        parameters=[ID],
        request=None,
        responses={200: KeySerializer, **errors(400, 403, 404)},
    )
    def post(self, request: Request, key_id: str) -> Response:
        """End a key for good; unlike a deleted one it stays in the list."""
        key = find_key(self.actor, read_key_id(key_id))
        revoke_key(actor=self.actor, key=key)
        key.refresh_from_db()
        return Response(present_keys([key])[0])


def read_body(request: Request) -> Any:
    """Return the decoded body; raise KeyRefused in llamactl's words, or BodyTooLarge."""
    body = read_bounded(request)
    try:
        return decode_json(body)
    except InvalidBody as error:
        raise KeyRefused("invalid_json", "Invalid JSON in request body", field="body", why=str(error)) from error


def read_grace(request: Request) -> timedelta:
    """Return the grace that a rotation asks for; no body is none."""
    body = read_bounded(request)
    value = decode_json(body) if body.strip() else {}
    seconds = value.get("grace", 0) if isinstance(value, dict) else None
    if not isinstance(seconds, int) or isinstance(seconds, bool) or not 0 <= seconds <= 604_800:
        raise KeyRefused("invalid_grace", "grace: it must be a whole number of seconds from 0 to 604800.")
    return timedelta(seconds=seconds)


def present_keys(keys: Sequence[ApiKey]) -> list[dict[str, Any]]:
    """Return keys as JSON, llamactl's members first; two queries whatever their number."""
    prefetch_related_objects(keys, "permissions", "quotas")
    return [present_key(key) for key in keys]


def present_key(key: ApiKey) -> dict[str, Any]:
    """Return a key whose permissions and quotas were fetched."""
    is_listing = key.permission_mode == PermissionMode.PER_INSTANCE
    return {
        "id": key.pk,
        "name": key.name,
        "user_id": key.user.get_username(),
        "permission_mode": key.permission_mode,
        "expires_at": to_seconds(key.expires_at),
        "created_at": to_seconds(key.created_at),
        "updated_at": to_seconds(key.updated_at),
        "last_used_at": to_seconds(key.last_used_at),
        "kind": key.kind,
        "key_hint": key.key_hint,
        "note": key.note,
        "can_start": key.can_start,
        "can_evict": key.can_evict,
        "instance_ids": sorted(one.instance_id for one in key.permissions.all()) if is_listing else [],
        "limits": [{"unit": quota.unit, "window": quota.window, "limit": quota.limit} for quota in key.quotas.all()],
        "former_ends_at": to_seconds(key.former_ends_at),
        "revoked_at": to_seconds(key.revoked_at),
    }


def to_seconds(moment: datetime | None) -> int | None:
    """Return whole Unix seconds."""
    return None if moment is None else int(moment.timestamp())
