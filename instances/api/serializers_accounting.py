"""The shapes of requests and sums, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from accounts.enums import RequestOutcome


class RequestRecordSerializer(serializers.Serializer[Any]):
    """A request that is over."""

    id = serializers.IntegerField()
    request_id = serializers.CharField(help_text="As in the answer's header `x-request-id`.")
    finished_at = serializers.FloatField(help_text="Unix seconds.")
    user = serializers.CharField(allow_null=True)
    key = serializers.CharField(allow_null=True, help_text="Name and first characters.")
    key_id = serializers.IntegerField(allow_null=True, help_text="Null too when the key is gone.")
    client_address = serializers.CharField()
    instance = serializers.CharField(allow_null=True)
    instance_id = serializers.IntegerField(allow_null=True)
    backend_type = serializers.CharField(allow_null=True)
    model = serializers.CharField(help_text="As the client named it.")
    method = serializers.CharField()
    path = serializers.CharField()
    status = serializers.IntegerField(help_text="499: the client left before the end.")
    outcome = serializers.ChoiceField(choices=RequestOutcome.values)
    error = serializers.CharField(help_text="Why it was refused, by Corral or by the engine.")
    streamed = serializers.BooleanField()
    prompt_tokens = serializers.IntegerField(help_text="The whole prompt, what came from a cache included.")
    completion_tokens = serializers.IntegerField()
    cached_tokens = serializers.IntegerField(help_text="The part of the prompt that came from a cache.")
    tokens_are_floor = serializers.BooleanField(
        help_text="The engine told too little, or the client left first: `completion_tokens` is the least it can be."
    )
    prompt_per_second = serializers.FloatField(allow_null=True, help_text="As the engine reports it.")
    tokens_per_second = serializers.FloatField(allow_null=True, help_text="As the engine reports it.")
    queue_ms = serializers.IntegerField(help_text="Waiting for the instance.")
    first_byte_ms = serializers.IntegerField(allow_null=True, help_text="From the request to the answer's beginning.")
    duration_ms = serializers.IntegerField()


class UsageSumSerializer(serializers.Serializer[Any]):
    """A sum; the first fields are there when `group_by` asks for them."""

    user = serializers.CharField(required=False, allow_null=True)
    user_id = serializers.IntegerField(required=False, allow_null=True)
    key = serializers.CharField(required=False, allow_null=True)
    key_id = serializers.IntegerField(required=False, allow_null=True)
    instance = serializers.CharField(required=False, allow_null=True)
    day = serializers.DateField(required=False, help_text="UTC.")
    hour = serializers.DateTimeField(required=False, help_text="Its beginning, UTC.")
    requests = serializers.IntegerField()
    errors_ = serializers.IntegerField(help_text="Status 400 and above except 499, and answers that broke off.")
    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    cached_tokens = serializers.IntegerField()
    duration_ms = serializers.IntegerField()

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """Rename ``errors_``: a serializer's own ``errors`` can't be declared under its name."""
        found = super().get_fields()
        return {name.rstrip("_"): field for name, field in found.items()}
