"""The form of an instance: what every engine has in common. Whether values can work is the domain's to say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from django import forms
from django.conf import settings
from django.http import QueryDict
from django.utils.datastructures import MultiValueDict

from instances.backends.registry import BACKENDS
from instances.domain.names import ALIASES_LIMIT, NAME_LENGTH
from instances.domain.serving import NUMBERS
from instances.models import Instance

CONTROL = {"class": "form-control", "autocomplete": "off", "spellcheck": "false"}
SWITCH = {"class": "form-check-input", "role": "switch"}
ENGINES = tuple((backend.type, backend.label) for backend in BACKENDS.values())
SETTING_CHOICES = (("", "As configured"), ("true", "Yes"), ("false", "No"))
SECTIONS = (
    ("Names", ("aliases", "use_model_name", "unlisted")),
    (
        "Queue and swapping",
        ("concurrency_limit", "queue_limit", "queue_timeout", "priority", "send_loading_state"),
    ),
    ("Time-outs", ("connect_timeout", "first_byte_timeout", "idle_stream_timeout")),
)
"""Titles and fields of the parts of the form that few need, closed until something in them is set or wrong."""


def count_field(label: str, help_text: str, *, smallest: int = 0) -> forms.IntegerField:
    """Return a field for a whole number that may be left empty. A text input: browsers drop what isn't a number."""
    # The numeric keyboard of some phones has no minus.
    attrs = {**CONTROL, "inputmode": "numeric"} if smallest >= 0 else CONTROL
    return forms.IntegerField(
        label=label, help_text=help_text, required=False, min_value=smallest, widget=forms.TextInput(attrs=attrs)
    )


def serving_field(name: str, label: str, help_text: str) -> forms.IntegerField:
    """Return a field for one of the numbers of ``domain/serving.py``."""
    return count_field(label, help_text, smallest=NUMBERS[name].smallest)


def text_field(label: str, help_text: str = "", **attrs: str) -> forms.CharField:
    """Return a field for a short text that may be left empty."""
    widget = forms.TextInput(attrs={**CONTROL, **attrs})
    return forms.CharField(label=label, help_text=help_text, required=False, widget=widget)


def choice_field(label: str, choices: Iterable[tuple[str, str]], *, required: bool = False) -> forms.ChoiceField:
    """Return a field for one of a few values."""
    widget = forms.Select(attrs={"class": "form-select"})
    return forms.ChoiceField(label=label, choices=tuple(choices), required=required, widget=widget)


def switch_field(label: str, help_text: str) -> forms.BooleanField:
    """Return a field for yes or no."""
    widget = forms.CheckboxInput(attrs=SWITCH)
    return forms.BooleanField(label=label, help_text=help_text, required=False, widget=widget)


def show_choice(value: object) -> str:
    """Return what a field of ``SETTING_CHOICES`` shows for a stored value."""
    return "" if value is None else str(bool(value)).lower()


class InstanceForm(forms.Form):
    """The fields that don't depend on the engine."""

    name = text_field(
        "Name",
        f"Clients use it as the model's name. Letters, digits, . _ and -, at most {NAME_LENGTH}.",
        autocapitalize="none",
        maxlength="200",
    )
    backend_type = choice_field("Engine", ENGINES, required=True)
    node = choice_field("Node", ())
    port = count_field("Port", "Empty: Corral chooses a free one, or keeps the one it has.")
    group = text_field("Group", "Instances of a group can share a limit.", list="groups")
    idle_timeout = count_field("Idle timeout, minutes", "Stops after so many minutes without a request; 0: never.")
    on_demand_start = switch_field("Start on demand", "A request for the stopped instance starts it.")
    auto_restart = switch_field("Restart after a crash", "")
    max_restarts = count_field("Restarts in a row", "After so many it counts as failed; 0: none.")
    restart_delay = count_field("Pause before a restart, seconds", "")
    ttl = serving_field("ttl", "Idle timeout, seconds", "Counts instead of the minutes; 0: never, empty: the minutes.")
    preload = switch_field("Start with Corral", "It is started whenever Corral starts.")
    aliases = forms.CharField(
        label="Other names",
        required=False,
        help_text=f"More names for the model, one on each line; / : . and blanks are fine. At most {ALIASES_LIMIT}.",
        widget=forms.Textarea(attrs={**CONTROL, "rows": 3, "autocapitalize": "none"}),
    )
    use_model_name = text_field(
        "Model name for the engine",
        "What the engine gets as model in a request; empty: what it was started with.",
        autocapitalize="none",
    )
    unlisted = switch_field("Unlisted", "Left out of the lists of models; requests reach it all the same.")
    concurrency_limit = serving_field(
        "concurrency_limit", "Requests at once", "More are refused until one is done; empty or 0: no limit."
    )
    queue_limit = serving_field(
        "queue_limit", "Waiting requests", "So many may wait for a start; empty or 0: as configured."
    )
    queue_timeout = serving_field(
        "queue_timeout", "Longest wait, seconds", "Then a waiting request is refused; empty or 0: as configured."
    )
    priority = serving_field(
        "priority", "Priority", "When several wait for room, the highest number goes first; empty: 0. May be negative."
    )
    send_loading_state = choice_field("Tell waiting chats that the model loads", SETTING_CHOICES)
    connect_timeout = serving_field(
        "connect_timeout", "Connecting, seconds", "How long the engine may take to accept; empty or 0: 5."
    )
    first_byte_timeout = serving_field(
        "first_byte_timeout", "Beginning of an answer, seconds", "How long it may take; empty or 0: no limit."
    )
    idle_stream_timeout = serving_field(
        "idle_stream_timeout", "Pause within an answer, seconds", "How long it may last; empty or 0: no limit."
    )
    docker_enabled = choice_field("Run in Docker", SETTING_CHOICES)
    command_override = text_field("Program", "The path of another executable of this engine, without arguments.")
    preset_ini = forms.CharField(
        label="Model presets",
        required=False,
        strip=False,
        help_text="[name] and option = value lines for each model; leave the model above empty.",
        widget=forms.Textarea(attrs={**CONTROL, "class": "form-control font-monospace", "rows": 5}),
    )
    pinned = switch_field("Pinned", "Never stopped to make room for another.")
    disabled = switch_field("Disabled", "Nobody can start it.")

    def __init__(self, data: QueryDict | None = None, *, nodes: Iterable[str] = (), **kwargs: Any) -> None:
        super().__init__(data, **kwargs)
        names = dict.fromkeys([settings.CORRAL.node, *nodes])
        self.fields["node"].choices = [(name, name) for name in names]  # type: ignore[attr-defined]  # a ChoiceField

    @classmethod
    def read_texts(cls, data: QueryDict) -> dict[str, Any]:
        """Return what was sent as initial values of a new form, unchecked."""
        return {
            name: field.widget.value_from_datadict(data, MultiValueDict(), name)
            for name, field in cls.base_fields.items()
        }

    @classmethod
    def show_options(cls, options: Mapping[str, Any], *, instance: Instance | None = None) -> dict[str, Any]:
        """Return initial values for stored or imported options, defaults filled in."""
        shown = {
            name: options.get(name, getattr(settings.CORRAL, f"default_{name}"))
            for name in ("idle_timeout", "on_demand_start", "auto_restart", "max_restarts", "restart_delay")
        }
        shown |= {name: options.get(name) or "" for name in ("command_override", "preset_ini", "group")}
        shown |= {name: show_choice(options.get(name)) for name in ("docker_enabled", "send_loading_state")}
        shown |= {name: bool(options.get(name)) for name in ("pinned", "disabled", "preload", "unlisted")}
        shown |= {name: options.get(name) for name in ("use_model_name", *NUMBERS)}
        aliases = options.get("aliases")
        shown["aliases"] = "\n".join(map(str, aliases)) if isinstance(aliases, list) else ""
        if instance is not None:
            shown |= {
                "name": instance.name,
                "backend_type": instance.backend_type,
                "node": instance.node.name,
                "port": instance.port if instance.port_is_fixed else None,
                "group": instance.group,
                "pinned": instance.pinned,
                "disabled": instance.disabled,
            }
        return shown

    def to_options(self) -> dict[str, Any]:
        """Return the valid values in the shape of the management API, without those left empty."""
        values = self.cleaned_data
        options: dict[str, Any] = {
            name: values[name].replace("\r\n", "\n") if isinstance(values[name], str) else values[name]
            for name in (
                "idle_timeout", "on_demand_start", "auto_restart", "max_restarts", "restart_delay", "command_override",
                "preset_ini", "group", "pinned", "disabled", "backend_type", "use_model_name", *NUMBERS,
            )
            if values[name] not in (None, "")
        }  # fmt: skip
        options |= {name: values[name] == "true" for name in ("docker_enabled", "send_loading_state") if values[name]}
        options |= {name: True for name in ("preload", "unlisted") if values[name]}
        if aliases := [alias for line in re.split(r"[\n,]", values["aliases"]) if (alias := line.strip())]:
            options["aliases"] = aliases
        if values["node"]:
            options["nodes"] = [values["node"]]
        return options
