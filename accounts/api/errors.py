"""From exceptions to the bodies of the management API: ``{"error": "code", "details": "text"}``, perhaps ``fields``."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from functools import singledispatch
from typing import Any

from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.core.exceptions import RequestDataTooBig, ValidationError
from django.db import OperationalError
from django.http import Http404, HttpResponse, HttpResponseBase
from rest_framework import exceptions

from accounts.errors import AccountError, KeyRefused

logger = logging.getLogger(__name__)


class InvalidBody(AccountError):
    """The body is not JSON, or not the JSON that is needed."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Invalid request body: {reason}")


class BodyTooLarge(AccountError):
    """The body is larger than the server takes."""

    status = 413
    code = "body_too_large"


class InvalidParameter(AccountError):
    """A query parameter has a value that can't be used."""

    code = "invalid_parameter"


def error_response(
    code: str,
    details: str,
    *,
    status: int,
    fields: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> HttpResponse:
    """Return an error in llamactl's form, with a newline at its end."""
    body: dict[str, Any] = {"error": code, "details": details}
    if fields:
        body["fields"] = dict(fields)
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":")) + "\n"
    return HttpResponse(
        text.encode(errors="replace"), content_type="application/json", status=status, headers=dict(headers or {})
    )


def authentication_response(message: str) -> HttpResponse:
    """Return the 401 of a key check byte for byte as llamactl sends it: other keys, blanks, no newline."""
    body = json.dumps({"error": {"message": message, "type": "authentication_error"}})
    return HttpResponse(
        body, content_type="application/json", status=401, headers={"WWW-Authenticate": 'Bearer realm="Corral"'}
    )


def handle_exception(error: Exception, context: Mapping[str, Any]) -> HttpResponseBase | None:
    """Answer what a management view raised; None for what nobody expected, which becomes a logged 500."""
    return answer(error, context)


@singledispatch
def answer(error: Exception, context: Mapping[str, Any]) -> HttpResponseBase | None:
    """Return the answer for an exception by its class; this one is for all that have no other."""
    return None


@answer.register
def _(error: AccountError, context: Mapping[str, Any]) -> HttpResponse:
    return error_response(error.code, str(error), status=error.status)


@answer.register
def _(error: KeyRefused, context: Mapping[str, Any]) -> HttpResponse:
    fields = {error.field: error.why} if error.why else None
    return error_response(error.code, str(error), status=error.status, fields=fields)


@answer.register
def _(error: ValidationError, context: Mapping[str, Any]) -> HttpResponse:
    faults = error.message_dict if hasattr(error, "error_dict") else {"password": error.messages}
    fields = {name: " ".join(sentences) for name, sentences in faults.items()}
    details = " ".join(f"{name}: {sentence}" for name, sentence in fields.items())
    return error_response("invalid_request", details, status=400, fields=fields)


@answer.register
def _(error: exceptions.NotAuthenticated, context: Mapping[str, Any]) -> HttpResponse:
    return authentication_response("Missing API key")


@answer.register
def _(error: exceptions.AuthenticationFailed, context: Mapping[str, Any]) -> HttpResponse:
    return authentication_response("Invalid API key")


@answer.register
def _(error: exceptions.PermissionDenied | DjangoPermissionDenied, context: Mapping[str, Any]) -> HttpResponse:
    return error_response("permission_denied", str(error) or "This is not allowed.", status=403)


@answer.register
def _(error: exceptions.NotFound | Http404, context: Mapping[str, Any]) -> HttpResponse:
    return error_response("not_found", f"There is nothing at {context['request'].path}", status=404)


@answer.register
def _(error: exceptions.MethodNotAllowed, context: Mapping[str, Any]) -> HttpResponse:
    allowed = ", ".join(context["view"].allowed_methods)
    details = f"The method {context['request'].method} is not allowed here, only {allowed}."
    return error_response("method_not_allowed", details, status=405, headers={"Allow": allowed})


@answer.register
def _(error: RequestDataTooBig, context: Mapping[str, Any]) -> HttpResponse:
    return error_response(BodyTooLarge.code, "The body is too large.", status=BodyTooLarge.status)


@answer.register
def _(error: exceptions.APIException, context: Mapping[str, Any]) -> HttpResponse:
    return error_response("invalid_request", str(error.detail), status=error.status_code)


@answer.register
def _(error: OperationalError, context: Mapping[str, Any]) -> HttpResponse:
    logger.error("the database did not answer", exc_info=error)
    details = "The database does not answer at the moment. Try again."
    return error_response("database_unavailable", details, status=503, headers={"Retry-After": "2"})
