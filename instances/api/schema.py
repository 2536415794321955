"""Parameters that several routes of instances take."""

from __future__ import annotations

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter

NAME = OpenApiParameter(
    "name", OpenApiTypes.STR, OpenApiParameter.PATH, description="Name of the instance: letters, digits, `.`, `_`, `-`."
)
STATUS_FORMAT = OpenApiParameter(
    "status_format",
    OpenApiTypes.STR,
    enum=["string", "integer"],
    description="`integer` gives `status` as 0, 1 or 2; also as header `X-Llamactl-Status-Format`.",
)
