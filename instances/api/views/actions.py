"""What can be done with an instance: start, stop, restart; and what it did: its log and its events."""

from __future__ import annotations

import re
from typing import Protocol

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.base import ManagementView, read_number
from accounts.api.errors import InvalidParameter
from accounts.api.schema import errors, text
from accounts.domain.actors import Actor
from instances.api.presentation import present_event, present_one, wants_integer_status
from instances.api.schema import NAME, STATUS_FORMAT
from instances.api.serializers import EventSerializer, InstanceSerializer
from instances.domain import lifecycle
from instances.domain.access import find_instance, require_level
from instances.domain.sharing import visible_events
from instances.enums import ShareLevel
from instances.logs.reader import read_last_lines
from instances.models import Instance

INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
LINES = 2**31 - 1
EVENTS = 1000


class Action(Protocol):
    """A function of ``domain/lifecycle.py``."""

    def __call__(self, *, actor: Actor, instance: Instance) -> Instance:
        """Do it for the actor and return the instance as it is then."""


class ActionView(ManagementView):
    """Base of the three actions; a body is not looked at."""

    def act(self, request: Request, name: str, action: Action) -> Response:
        """Do it and show the instance as it is afterwards."""
        wants_integer_status(request)
        instance = action(actor=self.actor, instance=find_instance(self.actor, name))
        return Response(present_one(instance, actor=self.actor, request=request))


class StartView(ActionView):
    """``/api/v1/instances/{name}/start``."""

    @extend_schema(
        operation_id="start_instance",
        tags=["instances"],
        parameters=[NAME, STATUS_FORMAT],
        request=None,
        responses={200: InstanceSerializer, **errors(400, 403, 404, 409, 500, 503)},
    )
    def post(self, request: Request, name: str) -> Response:
        """Start an instance; what runs stays. `queued` is true when others' requests must finish first."""
        return self.act(request, name, lifecycle.start_instance)


class StopView(ActionView):
    """``/api/v1/instances/{name}/stop``."""

    @extend_schema(
        operation_id="stop_instance",
        tags=["instances"],
        parameters=[NAME, STATUS_FORMAT],
        request=None,
        responses={200: InstanceSerializer, **errors(400, 403, 404, 500, 503)},
    )
    def post(self, request: Request, name: str) -> Response:
        """Stop an instance: requests in flight may finish, then the engine ends."""
        return self.act(request, name, lifecycle.stop_instance)


class RestartView(ActionView):
    """``/api/v1/instances/{name}/restart``."""

    @extend_schema(
        operation_id="restart_instance",
        tags=["instances"],
        parameters=[NAME, STATUS_FORMAT],
        request=None,
        responses={200: InstanceSerializer, **errors(400, 403, 404, 409, 500, 503)},
    )
    def post(self, request: Request, name: str) -> Response:
        """Stop and start an instance; a stopped one is started."""
        return self.act(request, name, lifecycle.restart_instance)


class LogView(ManagementView):
    """``/api/v1/instances/{name}/logs``. ``?follow=true`` is served before Django, by ``instances/logs``."""

    @extend_schema(
        operation_id="get_logs",
        tags=["instances"],
        parameters=[
            NAME,
            OpenApiParameter("lines", OpenApiTypes.INT, description="The last lines; absent, 0 or negative: all."),
            OpenApiParameter("stream", OpenApiTypes.STR, enum=["stdout", "stderr"], description="Default: both."),
            OpenApiParameter("timestamps", OpenApiTypes.BOOL, description="Each line begins with its time."),
            OpenApiParameter("follow", OpenApiTypes.BOOL, description="Keep sending new lines (SSE or plain text)."),
        ],
        responses={**text("Lines of the log."), **errors(400, 403, 404, 500)},
    )
    def get(self, request: Request, name: str) -> HttpResponse:
        """Show the log."""
        lines = read_lines(request)
        stream = request.query_params.get("stream") or None
        if stream not in (None, "stdout", "stderr"):
            raise InvalidParameter("Invalid stream parameter: it must be stdout or stderr.")
        instance = find_instance(self.actor, name)
        require_level(self.actor, instance, ShareLevel.OPERATE)
        timestamps = request.query_params.get("timestamps", "").lower() in ("true", "1", "yes")
        log = read_last_lines(instance, lines, stream, timestamps)
        return HttpResponse(log.encode(errors="replace"), content_type="text/plain; charset=utf-8")


class EventListView(ManagementView):
    """``/api/v1/instances/{name}/events``."""

    @extend_schema(
        operation_id="list_events",
        tags=["instances"],
        parameters=[NAME, OpenApiParameter("limit", OpenApiTypes.INT, description="At most so many; default 100.")],
        responses={200: EventSerializer(many=True), **errors(400, 404)},
    )
    def get(self, request: Request, name: str) -> Response:
        """List what happened to an instance, newest first."""
        limit = read_number(request, "limit", largest=EVENTS)
        instance = find_instance(self.actor, name)
        events = visible_events(self.actor, instance)[: 100 if limit is None else limit]
        return Response([present_event(event) for event in events])


def read_lines(request: Request) -> int | None:
    """Return how many lines are asked for, None for all; raise InvalidParameter in the words of llamactl."""
    given = request.query_params.get("lines", "")
    if not given:
        return None
    if not INTEGER.fullmatch(given):
        shown = given[:50].replace('"', '\\"')
        raise InvalidParameter(f'Invalid lines parameter: strconv.Atoi: parsing "{shown}": invalid syntax')
    if len(given) > 18:
        return None if given.startswith("-") else LINES
    return min(int(given), LINES) if int(given) > 0 else None
