"""What was asked of instances: single requests, and sums."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.db.models import QuerySet, Sum
from django.db.models.functions import TruncDay
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.base import ManagementView
from accounts.api.lists import PAGING, page_rows, read_words, require_known
from accounts.api.schema import errors
from accounts.api.times import PERIOD, is_ascending, read_period
from accounts.enums import RequestOutcome
from accounts.models import ApiKey, HourlyUsage, RequestRecord, User
from instances.api.accounting import filter_requests, filter_rows, limit_to_actor
from instances.api.serializers_accounting import RequestRecordSerializer, UsageSumSerializer

PAGE = 100
GROUPS = {
    "user": ["user_id"],
    "key": ["key_id"],
    "instance": ["instance_name"],
    "day": ["day"],
    "hour": ["hour"],
}
"""What sums may be made by, and the columns."""
SUMS = ["requests", "errors", "prompt_tokens", "completion_tokens", "cached_tokens", "duration_ms"]
FILTERS = [
    OpenApiParameter("user", OpenApiTypes.STR, description="Names of people."),
    OpenApiParameter("key", OpenApiTypes.STR, description="Numbers or names of keys."),
    OpenApiParameter("instance", OpenApiTypes.STR, description="Names of instances."),
]


class ActivityView(ManagementView):
    """``/api/v1/activity``."""

    @extend_schema(
        operation_id="list_activity",
        tags=["activity"],
        parameters=[
            *FILTERS,
            OpenApiParameter("model", OpenApiTypes.STR, description="Models as clients named them."),
            OpenApiParameter(
                "status", OpenApiTypes.STR, description="Statuses such as `404`, or classes such as `5xx`."
            ),
            OpenApiParameter(
                "outcome", OpenApiTypes.STR, description=f"One or more of {', '.join(RequestOutcome.values)}."
            ),
            OpenApiParameter("request_id", OpenApiTypes.STR, description="As in the header `x-request-id`."),
            *PERIOD,
            *PAGING,
        ],
        responses={200: RequestRecordSerializer(many=True), **errors(400)},
    )
    def get(self, request: Request) -> Response:
        """List requests, newest first, 100 unless `limit` says otherwise; members see their own."""
        since, until = read_period(request)
        rows = filter_rows(limit_to_actor(RequestRecord.objects.all(), self.actor), request)
        rows = filter_requests(rows, request)
        if since is not None:
            rows = rows.filter(finished_at__gte=since)
        if until is not None:
            rows = rows.filter(finished_at__lt=until)
        sign = "" if is_ascending(request, default="desc") else "-"
        ordered = rows.select_related("user", "key").order_by(f"{sign}finished_at", f"{sign}id")
        page, headers = page_rows(ordered, request, default=PAGE)
        return Response([present_record(row) for row in page], headers=headers)


class UsageView(ManagementView):
    """``/api/v1/usage``."""

    @extend_schema(
        operation_id="list_usage",
        tags=["activity"],
        parameters=[
            OpenApiParameter(
                "group_by",
                OpenApiTypes.STR,
                description=f"One or more of {', '.join(GROUPS)}; without it one sum of all.",
            ),
            *FILTERS,
            *PERIOD,
            *PAGING,
        ],
        responses={200: UsageSumSerializer(many=True), **errors(400)},
    )
    def get(self, request: Request) -> Response:
        """Sum what was used, by whole hours (UTC); members see their own. Deleted requests stay in the sums."""
        wanted = list(dict.fromkeys(read_words(request, "group_by")))
        require_known("group_by", wanted, GROUPS)
        since, until = read_period(request)
        rows = filter_rows(limit_to_actor(HourlyUsage.objects.order_by(), self.actor), request)
        if since is not None:
            rows = rows.filter(hour__gte=since.replace(minute=0, second=0, microsecond=0))
        if until is not None:
            rows = rows.filter(hour__lt=until)
        sign = "" if is_ascending(request, default="asc") else "-"
        if not wanted:
            return Response([rows.aggregate(**{name: Sum(name, default=0) for name in SUMS})])
        page, headers = page_rows(sum_up(rows, wanted, sign), request, default=1000)
        return Response(present_sums(list(page), wanted), headers=headers)


def sum_up(rows: QuerySet[HourlyUsage], wanted: list[str], sign: str) -> QuerySet[HourlyUsage, dict[str, Any]]:
    """Return the sums, by time where that is wanted, the largest number of requests first."""
    if "day" in wanted:
        rows = rows.annotate(day=TruncDay("hour", tzinfo=UTC))
    columns = [column for name in wanted for column in GROUPS[name]]
    times = [f"{sign}{name}" for name in ("day", "hour") if name in wanted]
    others = [column for column in columns if column not in ("day", "hour")]
    totals = {f"total_{name}": Sum(name) for name in SUMS}
    sums: Any = rows.values(*columns).annotate(**totals)  # the type checker can't see these names
    ordered: QuerySet[HourlyUsage, dict[str, Any]] = sums.order_by(*times, "-total_requests", *others)
    return ordered


def present_sums(sums: list[dict[str, Any]], wanted: list[str]) -> list[dict[str, Any]]:
    """Return sums as JSON objects; the number of queries does not depend on how many they are."""
    people = find_names(User, "user", sums) if "user" in wanted else {}
    keys = find_names(ApiKey, "key", sums) if "key" in wanted else {}
    found = []
    for row in sums:
        shown: dict[str, Any] = {}
        for name in wanted:
            if name == "user":
                shown |= {"user": people.get(row["user_id"]) or None, "user_id": row["user_id"] or None}
            elif name == "key":
                shown |= {"key": keys.get(row["key_id"]) or None, "key_id": row["key_id"] or None}
            elif name == "instance":
                shown["instance"] = row["instance_name"] or None
            else:
                shown[name] = show_time(row[name], name)
        found.append(shown | {name: row[f"total_{name}"] for name in SUMS})
    return found


def find_names(model: type[User | ApiKey], kind: str, sums: list[dict[str, Any]]) -> dict[int, str]:
    """Return the names of people or keys by id: today's, or for those that are gone the last that was kept."""
    ids = {row[f"{kind}_id"] for row in sums}
    names: dict[int, str] = {}
    kept = HourlyUsage.objects.filter(**{f"{kind}_id__in": ids}).exclude(**{f"{kind}_name": ""}).order_by()
    names |= dict(kept.values_list(f"{kind}_id", f"{kind}_name").distinct())
    for row in model.objects.filter(pk__in=ids):
        names[row.pk] = row.get_username() if isinstance(row, User) else show_key(row)
    return names


def show_key(key: ApiKey) -> str:
    """Return how a key is told from others."""
    return str(key)


def show_time(moment: datetime, name: str) -> str:
    """Return the beginning of a day or an hour, in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d}" if name == "day" else f"{moment.astimezone(UTC):%Y-%m-%dT%H:00:00Z}"


def present_record(row: RequestRecord) -> dict[str, Any]:
    """Return a request as JSON; who and what is named as today where it still exists, else as it was."""
    return {
        "id": row.pk,
        "request_id": row.request_id,
        "finished_at": round(row.finished_at.timestamp(), 3),
        "user": row.user.get_username() if row.user else row.user_name or None,
        "key": show_key(row.key) if row.key else row.key_name or None,
        "key_id": row.key_id,
        "client_address": row.client_address,
        "instance": row.instance_name or None,
        "instance_id": row.instance_id,
        "backend_type": row.backend_type or None,
        "model": row.requested_model,
        "method": row.method,
        "path": row.path,
        "status": row.status,
        "outcome": row.outcome,
        "error": row.error_message,
        "streamed": row.streamed,
        "prompt_tokens": row.prompt_tokens,
        "completion_tokens": row.completion_tokens,
        "cached_tokens": row.cached_tokens,
        "tokens_are_floor": row.tokens_are_floor,
        "prompt_per_second": row.prompt_per_second,
        "tokens_per_second": row.tokens_per_second,
        "queue_ms": row.queue_ms,
        "first_byte_ms": row.first_byte_ms,
        "duration_ms": row.duration_ms,
    }
