"""An engine's own options as inputs of a form: from the catalogue and stored values to texts, and back."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.http import QueryDict

from instances.backends.base import Backend, NamesFile, OptionError, OptionField, OptionKind
from instances.backends.fields import plain_name
from instances.backends.normalize import BARE, EXTRA
from instances.backends.values import decode, number_text

PREFIX = "option."
NAMED_ELSEWHERE = frozenset({"port"})
"""Options that have a field of their own in the form."""
FIRST = frozenset({"ctx_size", "max_model_len", "parallel"})
"""Options that are shown first beside those that the catalogue marks."""
HINTS: Mapping[str, tuple[str, str]] = {
    "model": ("Model", "A file or folder on the node, or a repository where the engine takes one."),
    "hf_repo": ("Hugging Face repository", "organisation/model:quantisation, which the engine downloads itself."),
    "ctx_size": ("Context size", "Tokens, shared by all parallel requests; empty: the model's own."),
    "max_model_len": ("Context size", "Tokens; empty: the model's own."),
    "parallel": ("Parallel requests", "How many are served at once."),
    "gpu_layers": ("GPU layers", "How many layers go to the GPU; 0: none, all: every one."),
    "models_preset": ("Preset file", "A file of model presets on the node, for several models in one server."),
    "tensor_parallel_size": ("Tensor parallel size", "How many GPUs share the model."),
    "gpu_memory_utilization": ("GPU memory share", "Between 0 and 1."),
    "temp": ("Temperature", "Default of requests that name none."),
    "max_tokens": ("Most tokens", "Default length of an answer."),
    "command": ("Command", "The program and its arguments. ${PORT} is where it must listen, ${MODEL_ID} the name."),
    "health_path": ("Health path", "Answers 200 once the server is ready; none: an open port is enough."),
}
"""A label and a sentence for options that are shown first, in their order."""


@dataclass
class OptionInput:
    """One option in the form. ``text`` is what stands in the input, ``fault`` what is wrong with it."""

    field: OptionField
    text: str
    fault: str = ""

    @property
    def key(self) -> str:
        """Name of the input."""
        return PREFIX + self.field.name

    @property
    def label(self) -> str:
        """What people read."""
        return HINTS[self.field.name][0] if self.field.name in HINTS else self.field.name

    @property
    def hint(self) -> str:
        """A sentence that helps, or nothing."""
        return HINTS[self.field.name][1] if self.field.name in HINTS else ""

    @property
    def is_basic(self) -> bool:
        """Whether the option is among those shown first."""
        return self.field.basic or self.field.name in FIRST

    @property
    def is_short(self) -> bool:
        """Whether a narrow input is enough."""
        return self.field.kind in (OptionKind.INT, OptionKind.FLOAT, OptionKind.BOOL)

    @property
    def search_text(self) -> str:
        """Everything by which people may look for the option, in small letters."""
        return " ".join((self.field.name, self.field.long_flag, self.label, *self.field.aliases)).lower()

    @property
    def is_long(self) -> bool:
        """Whether the text has line breaks, which a one-line input would swallow."""
        return "\n" in self.text

    @property
    def is_model(self) -> bool:
        """Whether the model files of this host are offered."""
        return self.field.name in ("model", "model_draft")


@dataclass(frozen=True)
class Row:
    """An extra argument or a variable: a name and a value."""

    name: str
    value: str

    @property
    def is_long(self) -> bool:
        """Whether the value has line breaks, which a one-line input would swallow."""
        return "\n" in self.value


def show_options(backend: Backend, stored: Mapping[str, Any]) -> list[OptionInput]:
    """Return the inputs of an engine's catalogue for stored options."""
    return [
        OptionInput(field, show_value(field, stored.get(field.name)))
        for field in backend.fields
        if field.name not in NAMED_ELSEWHERE
    ]


def show_value(field: OptionField, value: object) -> str:
    """Return a stored value as the text of its input."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return number_text(value)
    if isinstance(value, list):  # a list of lines; a command given as a list is shown as one types it
        words = [str(word) for word in value]
        return "\n".join(words) if field.kind is OptionKind.LIST else shlex.join(words)
    return str(value)


def read_texts(backend: Backend, data: QueryDict) -> list[OptionInput]:
    """Return the inputs as they were sent. Nothing is checked yet, so nothing that was typed is lost."""
    return [
        OptionInput(field, plain_lines(data.get(PREFIX + field.name, "")))
        for field in backend.fields
        if field.name not in NAMED_ELSEWHERE
    ]


def read_options(inputs: Sequence[OptionInput]) -> dict[str, Any]:
    """Return the values for ``backend_options``; what can't be read gets a ``fault`` and is left out."""
    options: dict[str, Any] = {}
    for entry in inputs:
        if not entry.text.strip():
            continue
        is_exact = entry.field.kind is OptionKind.STR and entry.field.names_file is NamesFile.NO
        text = entry.text if is_exact else entry.text.strip()  # blanks matter in a prompt, hardly in a path
        value = [line for line in text.splitlines() if line.strip()] if entry.field.kind is OptionKind.LIST else text
        try:
            decoded = decode(entry.field, value)
        except OptionError as error:
            entry.fault = error.message
        else:
            options[entry.field.name] = decoded
    return options


def plain_lines(text: str) -> str:
    """Return a text with the line ends that forms send (HTML, 4.10.21.6: CR LF) as they were typed."""
    return text.replace("\r\n", "\n")


def show_extra(stored: Mapping[str, Any]) -> list[Row]:
    """Return stored extra arguments as rows; a flag that is given several times has several."""
    rows = []
    for name, value in (stored.get(EXTRA) or {}).items():
        if isinstance(value, list):
            rows += [Row(name, "" if item is True else str(item)) for item in value]
        elif value is not False:
            rows.append(Row(name, "" if value in BARE else str(value)))
    return rows


def read_rows(data: QueryDict, kind: str) -> list[Row]:
    """Return the rows sent as ``<kind>_name`` and ``<kind>_value``, without empty ones."""
    names, values = data.getlist(f"{kind}_name"), list(map(plain_lines, data.getlist(f"{kind}_value")))
    values += [""] * (len(names) - len(values))
    return [Row(name.strip(), value) for name, value in zip(names, values, strict=False) if name.strip() or value]


def read_extra(rows: Sequence[Row]) -> dict[str, Any]:
    """Return rows as ``extra_args``: no value is a bare flag, a repeated name a list."""
    extra: dict[str, Any] = {}
    for row in rows:
        extra.setdefault(plain_name(row.name), []).append(row.value or True)
    return {
        name: "" if values == [True] else values if len(values) > 1 or values[0] in BARE else values[0]
        for name, values in extra.items()
    }
