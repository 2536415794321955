"""Reading words from a query, and paging of lists."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from django.db.models import Model, QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request

from accounts.api.base import read_number
from accounts.api.errors import InvalidParameter

M = TypeVar("M", bound=Model)
R = TypeVar("R")
PAGE = 1000
FAR = 10**9
PAGING = [
    OpenApiParameter("order", OpenApiTypes.STR, enum=["asc", "desc"], description="By time."),
    OpenApiParameter("limit", OpenApiTypes.INT, description="At most so many, up to 1000."),
    OpenApiParameter("offset", OpenApiTypes.INT, description="Leave out so many first."),
]


def read_words(request: Request, name: str) -> list[str]:
    """Return the comma-separated words of a parameter. A NUL, which PostgreSQL can't take, matches nothing anyway."""
    words = (word.strip() for text in request.query_params.getlist(name) for word in text.split(","))
    return [word.replace("\0", "\N{REPLACEMENT CHARACTER}") for word in words if word]


def require_known(name: str, words: Iterable[str], known: Iterable[str]) -> None:
    """Raise InvalidParameter naming the choices unless every word is one of them."""
    choices = sorted(set(known))
    if wrong := [word for word in words if word not in choices]:
        raise InvalidParameter(f"Invalid {name} parameter: {wrong[0][:50]!r} is not one of {', '.join(choices)}.")


def page_rows(
    rows: QuerySet[M, R], request: Request, *, default: int | None = None
) -> tuple[QuerySet[M, R], dict[str, str]]:
    """Return the page asked for with ``limit`` and ``offset``, and the headers X-Total-Count and Link (RFC 8288).

    Without either it is the first page of ``default`` rows, or the whole list, without headers, where that is None.
    """
    limit = read_number(request, "limit", largest=PAGE)
    offset = read_number(request, "offset", largest=FAR)
    if limit is None and offset is None and default is None:
        return rows, {}
    limit, offset = max(limit if limit is not None else default or PAGE, 1), offset or 0
    total = rows.count()
    places = {"first": 0, "last": (max(total, 1) - 1) // limit * limit}
    if offset > 0:
        places["prev"] = max(0, offset - limit)
    if offset + limit < total:
        places["next"] = offset + limit
    links = [f'<{page_url(request, limit, start)}>; rel="{name}"' for name, start in places.items()]
    return rows[offset : offset + limit], {"X-Total-Count": str(total), "Link": ", ".join(links)}


def page_url(request: Request, limit: int, offset: int) -> str:
    """Return this request's address for another page; an API key in the query is not repeated."""
    query = request.query_params.copy()
    query.pop("api_key", None)
    query["limit"], query["offset"] = str(limit), str(offset)
    return f"{request.path}?{query.urlencode()}"
