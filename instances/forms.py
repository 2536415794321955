"""The form of an instance: what every engine has in common. Whether values can work is the domain's to say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django import forms
from django.conf import settings
from django.http import QueryDict
from django.utils.datastructures import MultiValueDict

from instances.backends.registry import BACKENDS
from instances.domain.names import NAME_LENGTH
from instances.models import Instance

CONTROL = {"class": "form-control", "autocomplete": "off", "spellcheck": "false"}
SWITCH = {"class": "form-check-input", "role": "switch"}
ENGINES = tuple((backend.type, backend.label) for backend in BACKENDS.values())
DOCKER_CHOICES = (("", "As configured"), ("true", "Yes"), ("false", "No"))


def count_field(label: str, help_text: str) -> forms.IntegerField:
    """Return a field for a whole number that may be left empty. A text input: browsers drop what isn't a number."""
    attrs = {**CONTROL, "inputmode": "numeric"}
    return forms.IntegerField(
        label=label, help_text=help_text, required=False, min_value=0, widget=forms.TextInput(attrs=attrs)
    )


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
    docker_enabled = choice_field("Run in Docker", DOCKER_CHOICES)
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
        docker = options.get("docker_enabled")
        shown = {
            name: options.get(name, getattr(settings.CORRAL, f"default_{name}"))
            for name in ("idle_timeout", "on_demand_start", "auto_restart", "max_restarts", "restart_delay")
        }
        shown |= {name: options.get(name) or "" for name in ("command_override", "preset_ini", "group")}
        shown["docker_enabled"] = "" if docker is None else str(bool(docker)).lower()
        shown |= {name: bool(options.get(name)) for name in ("pinned", "disabled")}
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
        docker = values["docker_enabled"]
        options: dict[str, Any] = {
            name: values[name].replace("\r\n", "\n") if isinstance(values[name], str) else values[name]
            for name in (
                "idle_timeout", "on_demand_start", "auto_restart", "max_restarts", "restart_delay", "command_override",
                "preset_ini", "group", "pinned", "disabled", "backend_type",
            )
            if values[name] not in (None, "")
        }  # fmt: skip
        if docker:
            options["docker_enabled"] = docker == "true"
        if values["node"]:
            options["nodes"] = [values["node"]]
        return options
