"""``/api/v1/audit``: who changed what."""

from __future__ import annotations

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.base import ManagementView
from accounts.api.lists import PAGING, page_rows, read_words, require_known
from accounts.api.schema import errors
from accounts.api.times import PERIOD, is_ascending, read_period
from accounts.domain.audit_search import AuditFilter, describe_entry, find_entries
from accounts.domain.rights import require_admin
from accounts.enums import AuditSource

PAGE = 100


class AuditEntrySerializer(serializers.Serializer[dict[str, object]]):
    """A change."""

    id = serializers.IntegerField()
    created_at = serializers.FloatField(help_text="Unix seconds.")
    actor = serializers.CharField(help_text="`user:name`, `key:id (user:name)`, `console:name`, ...")
    user = serializers.CharField(allow_null=True)
    key = serializers.CharField(allow_null=True, help_text="Name and first characters.")
    key_id = serializers.IntegerField(allow_null=True)
    source_ = serializers.ChoiceField(choices=AuditSource.values)
    client_address = serializers.CharField(allow_null=True)
    request_id = serializers.CharField(allow_null=True)
    action = serializers.CharField(help_text="Kind of object and verb, such as `instance.create`.")
    target_type = serializers.CharField(allow_null=True)
    target_id = serializers.CharField(allow_null=True)
    target = serializers.CharField(allow_null=True, help_text="The object's name at that time.")
    before = serializers.DictField(allow_null=True, help_text="What changed, as it was; secrets masked.")
    after = serializers.DictField(allow_null=True, help_text="What changed, as it is; secrets masked.")

    def get_fields(self) -> dict[str, serializers.Field]:  # type: ignore[type-arg]  # any kind of field
        """Rename ``source_``: a field's own ``source`` can't be declared under its name."""
        return {name.rstrip("_"): field for name, field in super().get_fields().items()}


class AuditView(ManagementView):
    """``/api/v1/audit``."""

    @extend_schema(
        operation_id="list_audit",
        tags=["people"],
        parameters=[
            OpenApiParameter("user", OpenApiTypes.STR, description="Names of people."),
            OpenApiParameter("key", OpenApiTypes.STR, description="Numbers or beginnings of names of keys."),
            OpenApiParameter(
                "action", OpenApiTypes.STR, description="Such as `instance.create`, or `instance` for all."
            ),
            OpenApiParameter("target_type", OpenApiTypes.STR, description="Kinds of objects, such as `instance`."),
            OpenApiParameter("target", OpenApiTypes.STR, description="Ids or beginnings of names of objects."),
            OpenApiParameter(
                "source", OpenApiTypes.STR, description=f"One or more of {', '.join(AuditSource.values)}."
            ),
            OpenApiParameter("request_id", OpenApiTypes.STR),
            OpenApiParameter("q", OpenApiTypes.STR, description="Words that all stand somewhere in the entry."),
            *PERIOD,
            *PAGING,
        ],
        responses={200: AuditEntrySerializer(many=True), **errors(400, 403)},
    )
    def get(self, request: Request) -> Response:
        """List changes, newest first, 100 unless `limit` says otherwise; for administrators."""
        require_admin(self.actor)
        rows = find_entries(read_filter(request))
        if is_ascending(request, default="desc"):
            rows = rows.order_by("id")
        page, headers = page_rows(rows, request, default=PAGE)
        return Response([describe_entry(entry) for entry in page], headers=headers)


def read_filter(request: Request) -> AuditFilter:
    """Return what a query asks for; raise InvalidParameter for a source or a time that can't be."""
    since, until = read_period(request)
    sources = read_words(request, "source")
    require_known("source", sources, AuditSource.values)
    return AuditFilter(
        people=read_words(request, "user"),
        keys=read_words(request, "key"),
        actions=read_words(request, "action"),
        object_types=read_words(request, "target_type"),
        objects=read_words(request, "target"),
        sources=sources,
        request_ids=read_words(request, "request_id"),
        since=since,
        until=until,
        text=request.query_params.get("q", "").replace("\0", "\N{REPLACEMENT CHARACTER}"),
    )
