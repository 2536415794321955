"""Views about the installation itself: version, configuration, health, the API's documentation, and "not found"."""

from __future__ import annotations

from typing import Any, NoReturn

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import render
from django.template.loader import get_template
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView, SpectacularJSONAPIView, SpectacularSwaggerSplitView
from redis.exceptions import RedisError
from rest_framework import exceptions
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.base import ManagementView
from accounts.api.errors import error_response
from accounts.api.schema import errors, text
from accounts.authentication import find_presented_key, hold_answer, note_use, read_presented_keys
from accounts.domain.actors import actor_for
from accounts.permissions import CanOperate
from instances.domain.access import visible_instances
from instances.enums import ACTIVE, State
from instances.models import Instance, Run
from instances.redis import redis_client
from portal.configuration import build_information, describe_configuration


class VersionView(ManagementView):
    """``/api/v1/version``."""

    @extend_schema(operation_id="get_version", tags=["system"], responses={**text("Three lines."), **errors()})
    def get(self, request: Request) -> HttpResponse:
        """Show version, commit and build time."""
        build = build_information()
        lines = f"Version: {build['version']}\nCommit: {build['commit_hash']}\nBuild Time: {build['build_time']}\n"
        return HttpResponse(lines, content_type="text/plain; charset=utf-8")


class ConfigView(ManagementView):
    """``/api/v1/config``."""

    permission_classes = (CanOperate,)

    @extend_schema(operation_id="get_config", tags=["system"], responses={200: OpenApiTypes.OBJECT, **errors(403)})
    def get(self, request: Request) -> Response:
        """Show the effective settings, secrets masked."""
        return Response(describe_configuration())


class UnknownView(ManagementView):
    """Whatever else lies below ``/api/``: 401 without a key, else 404 in JSON, for every method."""

    schema = None

    def http_method_not_allowed(self, request: HttpRequest, *args: Any, **kwargs: Any) -> NoReturn:
        """Answer 404, as no method is allowed at an address that doesn't exist."""
        raise exceptions.NotFound


class SchemaView(SpectacularJSONAPIView):
    """The OpenAPI 3 document. Public, as the contract has it."""

    permission_classes = (AllowAny,)
    authentication_classes = ()

    @extend_schema(exclude=True)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Return the document."""
        response: Response = SpectacularAPIView.get(self, request, *args, **kwargs)  # type: ignore[no-untyped-call]  # it has none
        return response


class SwaggerView(SpectacularSwaggerSplitView):
    """Swagger UI from our own static files; its script is a request of its own, as the CSP allows no inline ones."""

    permission_classes = (AllowAny,)
    authentication_classes = ()
    url_name = "openapi"
    template_name = "portal/swagger.html"


@csrf_exempt
@require_safe
def show_health(request: HttpRequest) -> HttpResponse:
    """Say that the portal answers and which engines have a process, in llama-swap's form.

    Public, for load balancers; but models are listed only to who may see them, by a key of either kind or a login.
    ``?format=text``, or a client that wants plain text only, gets ``OK``. 503 when the database does not answer.
    """
    try:
        rows = list(visible_to_caller(request).filter(state__in=ACTIVE).values_list("pk", "name", "state"))
        pids = dict(Run.objects.filter(exited_at__isnull=True).values_list("instance_id", "child_pid"))
    except DatabaseError:
        return answer_json({"status": "error", "details": "The database does not answer."}, status=503)
    accept = request.headers.get("Accept", "*/*")
    if request.GET.get("format") == "text" or ("text/plain" in accept and "json" not in accept and "*/*" not in accept):
        return answer_ok(request)
    words = {State.READY: "running"}
    models = {name: {"status": words.get(State(state), state), "pid": pids.get(pk)} for pk, name, state in sorted(rows)}
    return answer_json({"status": "ok", "models": models})


def visible_to_caller(request: HttpRequest) -> QuerySet[Instance]:
    """Return the instances that the sender of a plain request may see: by key or login, all with authentication off."""
    if not settings.CORRAL.require_management_auth:
        return Instance.objects.all()
    presented = read_presented_keys(request)
    key = find_presented_key(presented)
    if key is not None:
        note_use(key)
        return visible_instances(actor_for(key.user, key))
    if presented.key is not None or (presented.password is not None and not request.user.is_authenticated):
        hold_answer(request)
    return Instance.objects.visible_to(request.user)


@csrf_exempt
@require_safe
def answer_ok(request: HttpRequest) -> HttpResponse:
    """Say OK without looking at anything: this process is alive."""
    return HttpResponse("OK", content_type="text/plain; charset=utf-8")


@csrf_exempt
@require_safe
def show_readiness(request: HttpRequest) -> JsonResponse:
    """Say whether the database and Redis answer: 200, or 503 with what is wrong. For load balancers; public."""
    faults: dict[str, str] = {}
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        faults["database"] = "does not answer"
    try:
        with redis_client() as client:
            client.ping()
    except RedisError:
        faults["redis"] = "does not answer"
    return answer_json({"status": "error" if faults else "ok", **faults}, status=503 if faults else 200)


def answer_json(data: dict[str, Any], *, status: int = 200) -> JsonResponse:
    """Answer in compact JSON, as llama-swap writes it: some compare bytes."""
    return JsonResponse(data, status=status, json_dumps_params={"separators": (",", ":")})


def show_not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Answer an unknown address: JSON below ``/api/``, a page elsewhere."""
    if is_api(request):
        return error_response("not_found", f"There is nothing at {request.path}", status=404)
    return render(request, "404.html", status=404)  # Django's own view reads the body, which may be unreadable


def show_server_error(request: HttpRequest) -> HttpResponseBase:
    """Answer a fault of ours: JSON below ``/api/``, a page elsewhere. The log has the traceback."""
    if is_api(request):
        return error_response("internal_error", "Something went wrong in Corral. Its log says more.", status=500)
    return render_plainly("500.html", 500)


def show_bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Answer a request that can't be read: JSON below ``/api/``, a page elsewhere."""
    if is_api(request):
        return error_response("invalid_request", "The request can't be read.", status=400)
    return render_plainly("400.html", 400)


def render_plainly(template: str, status: int) -> HttpResponse:
    """Render a page without looking at the request: what is wrong with it would go wrong again."""
    return HttpResponse(get_template(template).render(), status=status)


def is_api(request: HttpRequest) -> bool:
    """Whether the client expects JSON."""
    return request.path.startswith("/api/")
