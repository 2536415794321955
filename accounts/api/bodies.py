"""Reading JSON objects with the fields that a view knows."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request

from accounts.api.errors import InvalidBody
from accounts.api.parsers import read_json
from accounts.errors import InvalidPerson


def read_body(request: Request, kind: type[serializers.Serializer[Any]], *, partial: bool = False) -> dict[str, Any]:
    """Return the known fields of the body; raise InvalidBody or InvalidPerson naming the first field that won't do."""
    body = read_json(request)
    if not isinstance(body, dict):
        raise InvalidBody("it must be a JSON object.")
    serializer = kind(data=body, partial=partial)
    if unknown := sorted(set(body) - set(serializer.fields)):
        raise InvalidPerson(f"{unknown[0][:50]}: there is no such field.")
    if not serializer.is_valid():
        for name, faults in serializer.errors.items():
            fault = faults[0] if isinstance(faults, list) else faults
            raise InvalidPerson(f"{name}: {fault}")
    return dict(serializer.validated_data)
