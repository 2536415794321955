"""Instances: list, create, read, replace, change, delete."""

from __future__ import annotations

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.base import ManagementView, read_flag
from accounts.api.lists import page_rows
from accounts.api.parsers import read_json
from accounts.api.schema import errors
from instances.api.filters import filter_instances
from instances.api.presentation import ACTIVE_RUNS, present_instances, present_one, wants_integer_status
from instances.api.schema import NAME, STATUS_FORMAT
from instances.api.serializers import (
    InstanceSerializer,
    OptionsPatchSerializer,
    OptionsSerializer,
    WrittenInstanceSerializer,
)
from instances.domain.access import find_instance, visible_instances
from instances.domain.lifecycle import create_instance, delete_instance, update_instance
from instances.enums import LLAMACTL_STATUS, State

STATUSES = sorted(set(LLAMACTL_STATUS.values()))
FILTERS = [
    OpenApiParameter("status", OpenApiTypes.STR, description=f"One or more of {', '.join(STATUSES)}."),
    OpenApiParameter("state", OpenApiTypes.STR, description=f"One or more of {', '.join(State.values)}."),
    OpenApiParameter("backend", OpenApiTypes.STR, description="Engines, such as llama_cpp."),
    OpenApiParameter("node", OpenApiTypes.STR, description="Names of nodes."),
    OpenApiParameter("owner", OpenApiTypes.STR, description="Names of users."),
    OpenApiParameter("group", OpenApiTypes.STR, description="Groups of instances."),
    OpenApiParameter("limit", OpenApiTypes.INT, description="At most so many; adds X-Total-Count and Link."),
    OpenApiParameter("offset", OpenApiTypes.INT, description="Leave out so many first."),
]  # fmt: skip


class InstanceListView(ManagementView):
    """``/api/v1/instances``."""

    @extend_schema(
        operation_id="list_instances",
        tags=["instances"],
        parameters=[*FILTERS, STATUS_FORMAT],
        responses={200: InstanceSerializer(many=True), **errors(400)},
    )
    def get(self, request: Request) -> Response:
        """List the instances the caller may see, by name."""
        found = filter_instances(visible_instances(self.actor).prefetch_related(ACTIVE_RUNS), request)
        page, headers = page_rows(found, request)
        return Response(present_instances(page, actor=self.actor, request=request), headers=headers)


class InstanceView(ManagementView):
    """``/api/v1/instances/{name}``."""

    @extend_schema(
        operation_id="get_instance",
        tags=["instances"],
        parameters=[NAME, STATUS_FORMAT],
        responses={200: InstanceSerializer, **errors(400, 404)},
    )
    def get(self, request: Request, name: str) -> Response:
        """Show an instance."""
        return Response(present_one(find_instance(self.actor, name), actor=self.actor, request=request))

    @extend_schema(
        operation_id="create_instance",
        tags=["instances"],
        parameters=[
            NAME,
            OpenApiParameter("start", OpenApiTypes.BOOL, description="Start it; default: `start_on_create`."),
            STATUS_FORMAT,
        ],
        request=OptionsSerializer,
        responses={201: WrittenInstanceSerializer, **errors(400, 403, 409, 413)},
    )
    def post(self, request: Request, name: str) -> Response:
        """Create an instance and start it. It is created even if the start fails; `reason` and `warnings` say why."""
        wants_integer_status(request)  # a wrong parameter must be refused before anything is written
        created = create_instance(
            actor=self.actor, name=name, options=read_json(request), start=read_flag(request, "start")
        )
        shown = present_one(created.instance, actor=self.actor, request=request, warnings=created.warnings)
        return Response(shown, status=201)

    @extend_schema(
        operation_id="replace_instance",
        tags=["instances"],
        parameters=[NAME, STATUS_FORMAT],
        request=OptionsSerializer,
        responses={200: WrittenInstanceSerializer, **errors(400, 403, 404, 409, 413)},
    )
    def put(self, request: Request, name: str) -> Response:
        """Replace the options; port, engine and node stay when absent. A running engine is restarted if it must be."""
        return self.update(request, name, merge=False)

    @extend_schema(
        operation_id="change_instance",
        tags=["instances"],
        parameters=[NAME, STATUS_FORMAT],
        request=OptionsPatchSerializer,
        responses={200: WrittenInstanceSerializer, **errors(400, 403, 404, 409, 413)},
    )
    def patch(self, request: Request, name: str) -> Response:
        """Change the given options only; null removes one (JSON Merge Patch, RFC 7396)."""
        return self.update(request, name, merge=True)

    @extend_schema(
        operation_id="delete_instance",
        tags=["instances"],
        parameters=[
            NAME,
            OpenApiParameter("force", OpenApiTypes.BOOL, description="`false` refuses to delete a running instance."),
        ],
        responses={204: OpenApiResponse(description="Gone."), **errors(400, 403, 404, 409, 500, 503)},
    )
    def delete(self, request: Request, name: str) -> Response:
        """Stop an instance gracefully and delete it with its logs."""
        force = read_flag(request, "force")
        instance = find_instance(self.actor, name)
        delete_instance(actor=self.actor, instance=instance, force=force is not False)
        return Response(status=204)

    def update(self, request: Request, name: str, *, merge: bool) -> Response:
        """Do what PUT and PATCH share."""
        wants_integer_status(request)
        instance = find_instance(self.actor, name)
        updated = update_instance(actor=self.actor, instance=instance, options=read_json(request), merge=merge)
        return Response(present_one(updated.instance, actor=self.actor, request=request, warnings=updated.warnings))
