"""What the domain's errors mean to an API client, in llamactl's words. Importing it makes them known to all views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import HttpResponse

from accounts.api.errors import answer, error_response
from instances.errors import InstanceError

PREFIXES = {
    "invalid_request": "Invalid request body: ",
    "create_failed": "Failed to create instance: ",
    "update_failed": "Failed to update instance: ",
    "delete_failed": "Failed to delete instance: ",
    "start_failed": "Failed to start instance: ",
    "stop_failed": "Failed to stop instance: ",
    "restart_failed": "Failed to restart instance: ",
    "logs_failed": "Failed to get logs: ",
}
"""What llamactl puts before the reason, by its ``error`` code."""


@answer.register
def _(error: InstanceError, context: Mapping[str, Any]) -> HttpResponse:
    details = str(error)
    prefix = PREFIXES.get(error.code, "")
    if not details.startswith(prefix):
        details = prefix + details
    headers = {"Retry-After": "5"} if error.status == 503 else {}
    return error_response(error.code, details, status=error.status, fields=error.fields, headers=headers)
