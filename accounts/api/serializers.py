"""The shapes of errors, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers


class ErrorSerializer(serializers.Serializer[Any]):
    """Every error but a 401."""

    error = serializers.CharField(help_text="A stable word, such as `invalid_instance`.")
    details = serializers.CharField(help_text="A sentence for people.")
    fields_ = serializers.DictField(
        child=serializers.CharField(), required=False, help_text="What is wrong with which option."
    )

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """Rename ``fields_``: a serializer's own ``fields`` can't be declared under its name."""
        found = super().get_fields()
        found["fields"] = found.pop("fields_")
        return found


class AuthenticationErrorDetailSerializer(serializers.Serializer[Any]):
    """Inside of a 401."""

    message = serializers.CharField()
    type = serializers.CharField(default="authentication_error")


class AuthenticationErrorSerializer(serializers.Serializer[Any]):
    """A 401, in the form of the key checks."""

    error = AuthenticationErrorDetailSerializer()
