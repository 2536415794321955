"""What all management views share: who is let in, and how answers are written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.http import HttpRequest
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api.cors import add_cors_headers
from accounts.api.errors import InvalidParameter
from accounts.api.parsers import AnyTypeJSONParser
from accounts.authentication import ApiKeyAuthentication, SessionAuthentication
from accounts.domain.actors import Actor
from accounts.permissions import CanManage, actor_of

TRUE = ("true", "1", "t", "yes", "on")
FALSE = ("false", "0", "f", "no", "off")


class LineJSONRenderer(JSONRenderer):
    """Compact JSON and a newline, as llamactl writes it."""

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> bytes:
        """Return the body; no data is no body."""
        body: bytes = super().render(data, "application/json", renderer_context)
        return body + b"\n" if body else body


class NoNegotiation(BaseContentNegotiation):
    """Answers in the one form there is, whatever Accept or Content-Type say, so never 406 nor 415."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        """Return the view's parser."""
        return next(iter(parsers))

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """Return the view's renderer and its media type."""
        renderer = next(iter(renderers))
        return renderer, renderer.media_type


class ManagementView(APIView):
    """Base of the views under ``/api/v1``: management key or session, JSON in and out."""

    authentication_classes = (ApiKeyAuthentication, SessionAuthentication)
    permission_classes = (CanManage,)
    renderer_classes = (LineJSONRenderer,)
    parser_classes = (AnyTypeJSONParser,)
    content_negotiation_class = NoNegotiation

    @property
    def actor(self) -> Actor:
        """Who makes the request."""
        return actor_of(self.request)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check who asks, except for OPTIONS: a browser's preflight carries no credential (Fetch standard)."""
        if request.method != "OPTIONS":
            super().initial(request, *args, **kwargs)

    def options(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Response:
        """Say in ``Allow`` which methods there are; a preflight gets llamactl's 200."""
        return Response(status=200 if "Access-Control-Request-Method" in request.headers else 204)

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        """Add what lets other sites' pages read the answer, and keep it out of every cache."""
        final = super().finalize_response(request, response, *args, **kwargs)
        final.setdefault("Cache-Control", "no-store")
        add_cors_headers(request, final)
        return final


def read_flag(request: Request, name: str) -> bool | None:
    """Return a query parameter that is true or false, None when absent; raise InvalidParameter otherwise."""
    text = request.query_params.get(name)
    if text is None:
        return None
    if text.lower() in TRUE:
        return True
    if text.lower() in FALSE:
        return False
    raise InvalidParameter(f"Invalid {name} parameter: it must be true or false.")


def read_number(request: Request, name: str, *, largest: int) -> int | None:
    """Return a query parameter from 0 to ``largest`` (larger ones count as that), None when absent or empty."""
    text = request.query_params.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise InvalidParameter(f"Invalid {name} parameter: it must be a whole number from 0 to {largest}.")
    return largest if len(text) > 18 else min(int(text), largest)
