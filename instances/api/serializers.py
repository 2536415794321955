"""The shapes of bodies and answers, for the OpenAPI document. Validation is the domain's (``domain/options.py``)."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from instances.backends.registry import BACKENDS
from instances.domain.names import ALIAS_LENGTH, ALIASES_LIMIT, MODEL_NAME_LENGTH
from instances.domain.serving import NUMBERS
from instances.enums import LLAMACTL_STATUS, ShareLevel, State


def serving_number(name: str, help_text: str) -> serializers.IntegerField:
    """Return the field of one of the numbers of ``domain/serving.py``."""
    smallest, largest, meaning = NUMBERS[name]
    return serializers.IntegerField(
        required=False, min_value=smallest, max_value=largest, help_text=f"{help_text} ({meaning})"
    )


class OptionsSerializer(serializers.Serializer[Any]):
    """An instance's options. What is absent gets the default of the settings."""

    nodes = serializers.ListField(
        child=serializers.CharField(), required=False, help_text="The node it runs on; fixed at creation."
    )
    backend_type = serializers.ChoiceField(choices=sorted(BACKENDS))
    backend_options = serializers.DictField(
        required=False, help_text="The engine's own options; names and aliases as the engine's flags. `port` too."
    )
    auto_restart = serializers.BooleanField(required=False)
    max_restarts = serializers.IntegerField(required=False, min_value=0, help_text="In a row; 0: never.")
    restart_delay = serializers.IntegerField(required=False, min_value=0, help_text="Seconds.")
    on_demand_start = serializers.BooleanField(required=False, help_text="A request starts it.")
    idle_timeout = serializers.IntegerField(required=False, min_value=0, help_text="Minutes; 0: never idles out.")
    environment = serializers.DictField(
        child=serializers.CharField(allow_blank=True), required=False, help_text="Administrators only."
    )
    preset_ini = serializers.CharField(required=False, help_text="llama.cpp: model presets for router mode.")
    docker_enabled = serializers.BooleanField(required=False, help_text="Absent: the engine's setting.")
    command_override = serializers.CharField(
        required=False, help_text="Path of another executable. Administrators only."
    )
    group = serializers.CharField(required=False, max_length=50)
    pinned = serializers.BooleanField(required=False, help_text="Never stopped to make room.")
    disabled = serializers.BooleanField(required=False, help_text="Can't be started.")
    aliases = serializers.ListField(
        child=serializers.CharField(max_length=ALIAS_LENGTH),
        required=False,
        max_length=ALIASES_LIMIT,
        help_text="Other names for the model; no other instance may have one of them as its name or alias.",
    )
    use_model_name = serializers.CharField(
        required=False, max_length=MODEL_NAME_LENGTH, help_text="What the engine gets as `model`."
    )
    ttl = serving_number("ttl", "Seconds without a request until it stops.")
    concurrency_limit = serving_number("concurrency_limit", "Requests in work at once; more get 429.")
    queue_limit = serving_number("queue_limit", "Requests that may wait, over all web processes; more get 429.")
    queue_timeout = serving_number("queue_timeout", "How long a request waits.")
    priority = serving_number("priority", "Who goes first when several wait for room; nobody is stopped for it.")
    send_loading_state = serializers.BooleanField(
        required=False, help_text="A streaming chat that waits for a start is told so. Absent: as configured."
    )
    preload = serializers.BooleanField(required=False, help_text="Started when Corral starts.")
    unlisted = serializers.BooleanField(required=False, help_text="Left out of lists of models; still callable.")
    connect_timeout = serving_number("connect_timeout", "How long the engine may take to accept a connection.")
    first_byte_timeout = serving_number("first_byte_timeout", "How long an answer may take to begin.")
    idle_stream_timeout = serving_number("idle_stream_timeout", "How long an answer may pause.")


class OptionsPatchSerializer(OptionsSerializer):
    """Options to change; null removes one (JSON Merge Patch, RFC 7396)."""

    backend_type = serializers.ChoiceField(choices=sorted(BACKENDS), required=False)


class InstanceSerializer(serializers.Serializer[Any]):
    """An instance: llamactl's fields, then Corral's."""

    id = serializers.IntegerField()
    name = serializers.CharField()
    status = serializers.ChoiceField(
        choices=sorted(set(LLAMACTL_STATUS.values())), help_text="An integer with `status_format=integer`."
    )
    created = serializers.IntegerField(help_text="Unix seconds.")
    options = OptionsSerializer()
    state = serializers.ChoiceField(choices=State.values)
    status_code = serializers.IntegerField(help_text="0 stopped, 1 running, 2 failed, 3 restarting, 4 shutting_down.")
    reason = serializers.CharField(help_text="Why it failed, waits or was refused.")
    restart_count = serializers.IntegerField()
    port = serializers.IntegerField()
    pid = serializers.IntegerField(allow_null=True)
    ready = serializers.BooleanField(help_text="The engine answers.")
    owner = serializers.CharField(allow_null=True)
    node = serializers.CharField()
    group = serializers.CharField()
    queued = serializers.BooleanField(help_text="Wanted, but waiting for room.")
    last_used_at = serializers.IntegerField(allow_null=True, help_text="Unix seconds.")


class WrittenInstanceSerializer(InstanceSerializer):
    """An instance as a write answers it."""

    warnings = serializers.ListField(
        child=serializers.CharField(), help_text="What was corrected, ignored or did not work."
    )


class EventSerializer(serializers.Serializer[Any]):
    """Something that happened to an instance."""

    id = serializers.IntegerField()
    kind = serializers.CharField()
    from_state = serializers.CharField()
    to_state = serializers.CharField()
    actor = serializers.CharField()
    reason = serializers.CharField()
    run = serializers.IntegerField(allow_null=True)
    created = serializers.IntegerField(help_text="Unix seconds.")


class ShareSerializer(serializers.Serializer[Any]):
    """Somebody with whom an instance is shared: a person or a team."""

    user = serializers.CharField(allow_null=True)
    team = serializers.CharField(allow_null=True)
    level = serializers.ChoiceField(choices=ShareLevel.values)


class LevelSerializer(serializers.Serializer[Any]):
    """What somebody may do."""

    level = serializers.ChoiceField(
        choices=ShareLevel.values,
        help_text="`use` it for requests; `operate` it: start, stop, read its log; `manage` it: change, share, delete.",
    )


class OwnerSerializer(serializers.Serializer[Any]):
    """Whose an instance shall be."""

    owner = serializers.CharField(help_text="Name of a person.")


class CommandSerializer(serializers.Serializer[Any]):
    """A command line to read."""

    command = serializers.CharField()


class ParsedCommandSerializer(serializers.Serializer[Any]):
    """Options for an instance; also under the engine's older key, such as `llama_server_options`."""

    backend_type = serializers.ChoiceField(choices=sorted(BACKENDS))
    backend_options = serializers.DictField(required=False)
    environment = serializers.DictField(child=serializers.CharField(), required=False)
