"""Engines: what their programs say about themselves, and reading a pasted command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.base import ManagementView
from accounts.api.errors import InvalidBody, error_response
from accounts.api.parsers import read_json
from accounts.api.schema import errors, text
from accounts.permissions import CanOperate
from instances.api.serializers import CommandSerializer, ParsedCommandSerializer
from instances.backends.base import ParseError
from instances.backends.registry import LEGACY_OPTION_KEYS, get_backend
from instances.domain.backend_info import Topic, fetch_description


class DescriptionView(ManagementView):
    """Help, version or devices of an engine; ``as_view`` is given which."""

    permission_classes = (CanOperate,)
    backend_type = ""
    topic: Topic = "help"

    @extend_schema(tags=["engines"], responses={**text("What the program printed."), **errors(403, 500, 503)})
    def get(self, request: Request) -> HttpResponse:
        """Run the engine's configured program on this installation's node and show its output."""
        return HttpResponse(fetch_description(self.backend_type, self.topic), content_type="text/plain; charset=utf-8")


class ParseCommandView(ManagementView):
    """``/api/v1/backends/{engine}/parse-command``; ``as_view`` is given the engine."""

    backend_type = ""

    @extend_schema(
        tags=["engines"], request=CommandSerializer, responses={200: ParsedCommandSerializer, **errors(400, 413)}
    )
    def post(self, request: Request) -> Response | HttpResponse:
        """Read a command line into options; nothing is stored or run."""
        try:
            body = read_json(request)
        except InvalidBody:
            return error_response("invalid_request", "Invalid JSON body", status=400)
        command = body.get("command") if isinstance(body, Mapping) else None
        if not isinstance(body, Mapping) or not isinstance(command, str | None):
            return error_response("invalid_request", "Invalid JSON body", status=400)
        if not command or not command.strip():
            return error_response("invalid_command", "Command cannot be empty", status=400)
        try:
            return Response(self.parse(command))
        except ParseError as error:
            return error_response(error.code, error.message, status=400)

    def parse(self, command: str) -> dict[str, Any]:
        """Return the answer; the options stand under today's key and under the engine's older one."""
        parsed = get_backend(self.backend_type).parse_command(command)
        answer: dict[str, Any] = {"backend_type": self.backend_type}
        if parsed.options:
            options = dict(sorted(parsed.options.items()))
            answer["backend_options"] = options
            answer |= {key: options for key, engine in LEGACY_OPTION_KEYS.items() if engine == self.backend_type}
        if parsed.environment:
            answer["environment"] = parsed.environment
        return answer
