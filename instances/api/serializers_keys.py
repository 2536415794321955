"""The shapes of keys and limits, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from accounts.enums import KeyKind, PermissionMode, QuotaUnit, QuotaWindow


class KeyLimitSerializer(serializers.Serializer[Any]):
    """How much may be used with a key."""

    unit = serializers.ChoiceField(choices=QuotaUnit.choices)
    window = serializers.ChoiceField(choices=QuotaWindow.choices, help_text="In UTC.")
    limit = serializers.IntegerField(min_value=0)


class KeySerializer(serializers.Serializer[Any]):
    """A key: llamactl's fields, then Corral's."""

    id = serializers.IntegerField()
    name = serializers.CharField()
    user_id = serializers.CharField(help_text="The name of its owner.")
    permission_mode = serializers.ChoiceField(choices=PermissionMode.choices)
    expires_at = serializers.IntegerField(allow_null=True, help_text="Unix seconds; null: never.")
    created_at = serializers.IntegerField()
    updated_at = serializers.IntegerField()
    last_used_at = serializers.IntegerField(allow_null=True, help_text="About ten seconds behind.")
    kind = serializers.ChoiceField(choices=KeyKind.choices)
    key_hint = serializers.CharField(help_text="The secret's first characters.")
    note = serializers.CharField()
    can_start = serializers.BooleanField(help_text="It may start instances, by requests to models or otherwise.")
    can_evict = serializers.BooleanField(help_text="What it starts may push out another instance.")
    instance_ids = serializers.ListField(child=serializers.IntegerField(), help_text="Empty for `allow_all`.")
    limits = KeyLimitSerializer(many=True)
    former_ends_at = serializers.IntegerField(
        allow_null=True, help_text="Until then the secret before the last rotation is good too."
    )
    revoked_at = serializers.IntegerField(allow_null=True)


class CreatedKeySerializer(KeySerializer):
    """A key with its secret, which is shown this once."""

    key = serializers.CharField()


class KeyPatchSerializer(serializers.Serializer[Any]):
    """What may be changed of a key; what is absent stays."""

    name = serializers.CharField(required=False, help_text="At most 100 bytes.")
    permission_mode = serializers.ChoiceField(choices=PermissionMode.choices, required=False)
    instance_ids = serializers.ListField(
        child=serializers.IntegerField(), required=False, help_text="Needed for `per_instance`; else ignored."
    )
    expires_at = serializers.IntegerField(required=False, allow_null=True, help_text="Unix seconds; null: never.")
    note = serializers.CharField(required=False, allow_blank=True, max_length=500)
    can_start = serializers.BooleanField(required=False)
    can_evict = serializers.BooleanField(required=False)
    limits = KeyLimitSerializer(many=True, required=False)


class KeyRequestSerializer(KeyPatchSerializer):
    """A key to make."""

    name = serializers.CharField(help_text="At most 100 bytes.")
    permission_mode = serializers.ChoiceField(choices=PermissionMode.choices)
    kind = serializers.ChoiceField(choices=KeyKind.choices, required=False)
    user = serializers.CharField(required=False, help_text="Another owner; administrators only.")
    key = serializers.CharField(
        required=False, help_text="An existing secret, such as one of llamactl; administrators only."
    )


class RotationSerializer(serializers.Serializer[Any]):
    """How a key gets a new secret."""

    grace = serializers.IntegerField(
        required=False, min_value=0, max_value=604_800, help_text="Seconds for which the old secret stays good; 0."
    )


class PermissionSerializer(serializers.Serializer[Any]):
    """An instance that a key lists."""

    instance_id = serializers.IntegerField()
    instance_name = serializers.CharField(help_text="Empty when the caller may not see it any more.")
