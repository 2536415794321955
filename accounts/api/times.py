"""Reading moments and periods from a query."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time

from django.utils.dateparse import parse_date, parse_datetime
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request

from accounts.api.errors import InvalidParameter
from accounts.api.lists import require_known

PERIOD = [
    OpenApiParameter("since", OpenApiTypes.STR, description="From then on: a date, RFC 3339 or Unix seconds; UTC."),
    OpenApiParameter("until", OpenApiTypes.STR, description="Before then."),
]
#: A + that was not escaped as %2B arrives as a blank.
BLANK_BEFORE_ZONE = re.compile(r" (?=\d\d:?\d\d$)")
FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9998, 12, 31, tzinfo=UTC)


def read_period(request: Request) -> tuple[datetime | None, datetime | None]:
    """Return ``since`` and ``until``; raise InvalidParameter for what is no time, or an end before the beginning."""
    since, until = read_time(request, "since"), read_time(request, "until")
    if since is not None and until is not None and since > until:
        raise InvalidParameter("Invalid until parameter: it must not be before since.")
    return since, until


def read_time(request: Request, name: str) -> datetime | None:
    """Return a moment given as Unix seconds, RFC 3339, or a date (its beginning); UTC where no zone is named."""
    text = request.query_params.get(name, "").strip()
    if not text:
        return None
    try:
        moment = parse_time(BLANK_BEFORE_ZONE.sub("+", text))
        if moment is not None:
            moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        moment = None
    if moment is None or not FIRST <= moment <= LAST:
        raise InvalidParameter(
            f"Invalid {name} parameter: it must be a date, a time such as 2026-03-04T12:00:00Z, or Unix seconds."
        )
    return moment


def parse_time(text: str) -> datetime | None:
    """Return the moment a text tells, perhaps without a zone, or None; raise ValueError or OverflowError likewise."""
    if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text):
        return datetime.fromtimestamp(float(text), UTC)
    day = parse_date(text)
    return datetime.combine(day, time(), UTC) if day is not None else parse_datetime(text)


def is_ascending(request: Request, *, default: str) -> bool:
    """Whether ``order`` asks for the oldest first; raise InvalidParameter unless it is asc or desc."""
    word = request.query_params.get("order", "").strip().lower() or default
    require_known("order", [word], ["asc", "desc"])
    return word == "asc"
