"""What somebody is writing in the form of an instance, complete or not: shown again as it is until it can be saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from django.forms import BoundField
from django.http import QueryDict

from accounts.domain.actors import Actor
from instances import option_inputs
from instances.backends.base import Backend, Risk
from instances.backends.fields import plain_name
from instances.backends.normalize import EXTRA
from instances.backends.registry import BACKENDS
from instances.domain.access import ADMINISTRATORS_OPTIONS
from instances.errors import InstanceError
from instances.forms import SECTIONS, InstanceForm
from instances.models import Instance, Node
from instances.option_inputs import OptionInput, Row

ENGINE = "backend_options."
RENAMED = {"nodes": "node", f"{ENGINE}port": "port"}
"""Names of domain errors whose fields the form names otherwise."""
PRESET_FILE = "models_preset"
ADDRESS = ("port", "host")
"""Options of pasted commands that are left out: Corral chooses where an engine listens."""
ADMINISTRATORS = tuple(ADMINISTRATORS_OPTIONS)
"""Options that only administrators see and set; what stands there stays when others save."""


@dataclass(frozen=True)
class Section:
    """A part of the form that is open when something in it is set or wrong."""

    title: str
    fields: list[BoundField]
    is_open: bool


@dataclass
class Draft:
    """One form on its way. ``faults`` maps names of inputs to sentences, ``general`` are faults without an input.

    Whoever is no administrator (``is_admin``) isn't shown what only administrators may set; what is stored there stays.
    """

    form: InstanceForm
    backend: Backend
    inputs: list[OptionInput]
    extra: list[Row]
    environment: list[Row]
    is_admin: bool
    command_line: str = ""
    faults: dict[str, str] = field(default_factory=dict)
    general: list[str] = field(default_factory=list)

    @classmethod
    def from_options(
        cls, options: Mapping[str, Any], *, actor: Actor, name: str = "", instance: Instance | None = None
    ) -> Self:
        """Begin with options in the shape of the management API: stored ones, imported ones, or none."""
        backend = find_backend(instance.backend_type if instance else options.get("backend_type"))
        given = options.get("backend_options")
        engine: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
        variables = options.get("environment")
        initial = {"name": name, "backend_type": backend.type, **InstanceForm.show_options(options, instance=instance)}
        return cls(
            form=InstanceForm(initial=initial, nodes=node_names()),
            backend=backend,
            inputs=option_inputs.show_options(backend, engine),
            extra=option_inputs.show_extra(engine),
            environment=[Row(key, str(text)) for key, text in (variables or {}).items()]
            if isinstance(variables, Mapping)
            else [],
            is_admin=actor.is_admin,
        )

    @classmethod
    def from_post(cls, data: QueryDict, *, actor: Actor, check: bool) -> Self:
        """Go on with what was sent; ``check`` makes the form say at once what it can't read."""
        backend = find_backend(data.get("backend_type"))
        names = node_names()
        form = InstanceForm(data, nodes=names) if check else InstanceForm(
            initial=InstanceForm.read_texts(data), nodes=names
        )  # fmt: skip
        draft = cls(
            form=form,
            backend=backend,
            inputs=option_inputs.read_texts(backend, data),
            extra=option_inputs.read_rows(data, "extra"),
            environment=option_inputs.read_rows(data, "environment"),
            is_admin=actor.is_admin,
            command_line=data.get("command_line", ""),
        )
        if check and not form.is_valid():
            draft.faults = {name: " ".join(map(str, errors)) for name, errors in form.errors.items()}
        return draft

    @property
    def name(self) -> str:
        """The name as it stands in the form."""
        return str(self.form["name"].value() or "").strip()

    def shows(self, entry: OptionInput) -> bool:
        """Whether an option is there to be set by whoever is writing."""
        return self.is_admin or not (self.backend.administrators_only or entry.field.risk is not Risk.NONE)

    @property
    def shown(self) -> list[OptionInput]:
        """The options that are there to be set."""
        return [entry for entry in self.inputs if self.shows(entry)]

    @property
    def sections(self) -> list[Section]:
        """The parts of the form that few need."""
        found = []
        for title, names in SECTIONS:
            fields = [self.form[name] for name in names]
            is_open = any(bound.name in self.faults or is_set(bound.value()) for bound in fields)
            found.append(Section(title, fields, is_open))
        return found

    @property
    def basic(self) -> list[OptionInput]:
        """The few options shown first, as people think of them."""
        order = list(option_inputs.HINTS)
        found = [entry for entry in self.shown if entry.is_basic and entry.field.name != PRESET_FILE]
        return sorted(found, key=lambda e: order.index(e.field.name) if e.field.name in order else len(order))

    @property
    def preset_file(self) -> OptionInput | None:
        """The option that names a file of model presets, shown beside the presets themselves."""
        return next((entry for entry in self.shown if entry.field.name == PRESET_FILE), None)

    @property
    def advanced(self) -> list[tuple[str, list[OptionInput]]]:
        """All other options by group, in the catalogue's order."""
        groups: dict[str, list[OptionInput]] = {}
        for entry in self.shown:
            if not entry.is_basic:
                groups.setdefault(entry.field.group or "other", []).append(entry)
        return list(groups.items())

    @property
    def advanced_set(self) -> int:
        """How many of the other options have a value."""
        extra = len(self.extra) if self.takes_extra else 0
        return sum(1 for entry in self.shown if entry.text and not entry.is_basic) + extra

    @property
    def takes_extra(self) -> bool:
        """Whether arguments beyond the engine's catalogue may be set."""
        return self.is_admin and not self.backend.administrators_only

    def to_options(self, *, actor: Actor, instance: Instance | None) -> dict[str, Any] | None:
        """Return the options to save, or None after noting why they can't be read."""
        engine = option_inputs.read_options(self.inputs)
        self.faults |= {entry.key: entry.fault for entry in self.inputs if entry.fault}
        if self.faults:
            return None
        options = self.form.to_options()
        if extra := option_inputs.read_extra(self.extra):
            engine[EXTRA] = extra
        if (port := self.form.cleaned_data["port"]) is not None:
            engine["port"] = port
        options["backend_options"] = engine
        if actor.is_admin:
            options["environment"] = {row.name: row.value for row in self.environment}
        elif instance is not None:
            options |= {name: instance.options[name] for name in ADMINISTRATORS if name in instance.options}
            granted = self.granted_options(instance)
            options["backend_options"] = {**granted, **engine}
        return options

    def granted_options(self, instance: Instance) -> dict[str, Any]:
        """Return the stored options of the engine that this form doesn't show."""
        if self.is_admin or instance.backend_type != self.backend.type:
            return {}
        hidden = {entry.field.name for entry in self.inputs if not self.shows(entry)} | {EXTRA}
        stored = instance.options.get("backend_options") or {}
        return {name: value for name, value in stored.items() if name in hidden}

    def tell_granted(self, instance: Instance | None) -> str:
        """Return the names of what an administrator has set and this form doesn't show, as part of a sentence."""
        if instance is None or self.is_admin:
            return ""
        names = [name for name in ADMINISTRATORS if instance.options.get(name)]
        granted = self.granted_options(instance)
        names += [entry.field.name for entry in self.inputs if entry.field.name in granted]
        names += sorted(granted.get(EXTRA, {}))
        return join_words(names)

    def withhold(self) -> list[str]:
        """Empty what this form doesn't show, such as a pasted command or a file may bring; return the names."""
        if self.is_admin:
            return []
        names = [name for name in ("command_override", "preset_ini") if self.form.initial.get(name)]
        self.form.initial.update(dict.fromkeys(names, ""))
        for entry in self.inputs:
            if entry.text and not self.shows(entry):
                names.append(entry.field.name)
                entry.text = ""
        names += [row.name for row in self.extra]
        names += ["environment"] if self.environment else []
        self.extra, self.environment = [], []
        return names

    def merge_command(self, options: Mapping[str, Any], environment: Mapping[str, str]) -> int:
        """Put what a pasted command line says over what the form holds, but no address; return how many."""
        texts = {entry.field.name: entry for entry in self.inputs}
        options = {name: value for name, value in options.items() if name not in ADDRESS}
        for name, value in options.items():
            if name in texts:
                texts[name].text = option_inputs.show_value(texts[name].field, value)
        added = option_inputs.show_extra(options)
        names = {row.name for row in added}
        self.extra = [row for row in self.extra if row.name not in names] + added
        self.environment = [row for row in self.environment if row.name not in environment]
        self.environment += [Row(name, value) for name, value in environment.items()]
        plain = sum(1 for name in options if name != "extra_args")
        return plain + len(added) + len(environment)

    def offer_engines(self, actor: Actor) -> None:
        """Offer the engines that the actor may choose, and the one that is chosen."""
        self.form.fields["backend_type"].choices = [  # type: ignore[attr-defined]  # a ChoiceField
            (backend.type, backend.label)
            for backend in BACKENDS.values()
            if actor.is_admin or not backend.administrators_only or backend is self.backend
        ]

    def add_error(self, error: InstanceError) -> None:
        """Note a refusal of the domain beside the inputs it names, or above them all."""
        known = {*self.form.fields, *(entry.key for entry in self.shown), "environment", "extra"}
        if not self.is_admin:
            known -= {*ADMINISTRATORS, "extra"}
        placed, unplaced = False, list[str]()
        for name, sentence in error.fields.items():
            key, text = self.find_place(name, sentence.removeprefix(f"{name}: "))
            if key in known:
                self.faults[key] = text
                placed = True
            else:
                unplaced.append(sentence)
        self.general += unplaced if placed else [str(error)]
        for entry in self.inputs:
            entry.fault = self.faults.get(entry.key, "")

    def find_place(self, name: str, sentence: str) -> tuple[str, str]:
        """Return the name of the input that a domain error's field belongs to, and the sentence to stand there."""
        key = RENAMED.get(name, name).split(" ")[0]  # "preset_ini ctx-size" is about a line of preset_ini
        if not key.startswith(ENGINE):
            return key, sentence
        option = plain_name(key.removeprefix(ENGINE).removeprefix(f"{EXTRA}."))
        if option == EXTRA:
            return "extra", sentence
        is_catalogued = any(entry.field.name == option for entry in self.inputs)
        if not is_catalogued and option in {plain_name(row.name) for row in self.extra}:
            return "extra", f"{option}: {sentence}"
        return option_inputs.PREFIX + option, sentence

    @property
    def summary(self) -> list[tuple[str, str, str]]:
        """Every fault as (id of its input, its label, what is wrong), in the order of the form."""
        labels = {bound.name: str(bound.label) for bound in self.form}
        labels |= {entry.key: entry.label for entry in self.inputs}
        labels |= {"environment": "Environment", "extra": "Extra arguments", "command_line": "Command"}
        return [(input_id(key), labels[key], self.faults[key]) for key in labels if key in self.faults]

    @property
    def advanced_has_faults(self) -> bool:
        """Whether something among the other options is wrong."""
        return "extra" in self.faults or any(entry.fault for entry in self.inputs if not entry.is_basic)


def is_set(value: object) -> bool:
    """Whether a field holds something; zero is something."""
    return value is not None and value is not False and value != ""


def join_words(words: list[str]) -> str:
    """Return words as a sentence lists them: ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def input_id(key: str) -> str:
    """Return the HTML id of an input."""
    return "id_" + key.replace(".", "-")


def find_backend(name: object) -> Backend:
    """Return the engine of this type, the first one for anything else."""
    return BACKENDS.get(str(name)) or next(iter(BACKENDS.values()))


def node_names() -> list[str]:
    """Return the nodes to choose from."""
    return list(Node.objects.values_list("name", flat=True))
