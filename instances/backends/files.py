"""Find the local files and folders that options name, so that permission rules can check them."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from instances.backends.base import NamesFile, OptionError, OptionField

_REPOSITORY = re.compile(r"(hf://)?[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(:[\w.-]+)?(@[\w.-]+)?", re.ASCII)
_FILE_ENDING = re.compile(
    r".+\.(gguf|bin|safetensors|pt|pth|json|jsonl|ya?ml|toml|ini|jinja2?|j2|txt|log|pem|key|crt|cert|py|so|db|sock|env)",
    re.IGNORECASE | re.DOTALL,
)
_SCALE = re.compile(r"(.+?)[:=]\s*[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?\s*", re.IGNORECASE | re.DOTALL | re.ASCII)
_SCALE_SIGN = re.compile("[:=]")
_CSV_ROW = re.compile(r'("([^"]|"")*"|[^",]*)(,("([^"]|"")*"|[^",]*))*')
_TEMPLATE = re.compile(r"\{\{|\{%|\{#")
_NAMED = re.compile(r"[\w.-]+=(.+)", re.DOTALL)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def check_file_names(option: OptionField, value: str | list[str]) -> None:
    """Raise OptionError for a control character where `option` names a file; templates and JSON may have line breaks.

    No file of models has one in its name, but engines and libraries don't agree on where such a text ends.
    """
    if option.names_file is NamesFile.NO:
        return
    for text in value if isinstance(value, list) else [value]:
        names = [text]
        if option.names_file is NamesFile.MAYBE:
            names = _texts_in_json(text) or [text]
        elif option.names_file is NamesFile.TEMPLATE and _TEMPLATE.search(text):
            names = []
        for name in names:
            if found := _CONTROL.search(name):
                raise OptionError(
                    option.name, f"contains the control character U+{ord(found[0]):04X}; write a plain path without it"
                )


def files_named_by(fields: tuple[OptionField, ...], options: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(option, path text) for every file or folder in normalised options of the catalogue.

    A text that might be a path is reported, addresses among them; a Hugging Face repository id (`org/name`) is none.
    """
    found: list[tuple[str, str]] = []
    for option in fields:
        if option.names_file is not NamesFile.NO and option.name in options:
            value = options[option.name]
            for text in value if isinstance(value, list) else [value]:
                found += [(option.name, path) for path in _paths(option.names_file, text)]
    return found


def _paths(kind: NamesFile, text: str) -> Iterator[str]:
    if kind is NamesFile.YES:
        yield text
    elif kind is NamesFile.MANY:
        for item in _comma_items(text):
            yield from _without_scale(item)
    elif kind is NamesFile.TEMPLATE:
        yield from [] if _TEMPLATE.search(text) else [text]
    else:
        yield from possible_paths(text)


def _comma_items(text: str) -> list[str]:
    # llama.cpp reads these lists as one row of CSV, with double quotes around a path that has a comma. Readers differ
    # in what a quote elsewhere means, so that then every piece between commas counts as a path.
    if _CSV_ROW.fullmatch(text):
        try:
            return [item for row in csv.reader([text], strict=True) for item in row if item] or [text]
        except csv.Error:
            pass
    return [piece for piece in text.replace('"', "").split(",") if piece] or [text]


def _without_scale(item: str) -> list[str]:
    """The path in `path:0.5` or `path=1e0`; both readings where it isn't clear whether that is a scale."""
    if scaled := _SCALE.fullmatch(item):
        return [scaled[1]]
    sign = _SCALE_SIGN.search(item, max(item.rfind("/"), item.rfind("\\")) + 1)
    return [item, item[: sign.start()]] if sign and sign.start() else [item]


def possible_paths(text: str) -> list[str]:
    """Every path in `text`: the text itself, what stands behind `name=`, list items, and the texts inside JSON."""
    return [path for part in _texts_in_json(text) or [text] for path in possible_paths_of_text(part)]


def possible_paths_of_text(text: str) -> list[str]:
    """As `possible_paths`, for a text that is not JSON."""
    found: list[str] = []
    for item in dict.fromkeys([text, *text.split(",")]) if "," in text else [text]:
        named = _NAMED.fullmatch(item)
        candidate = named[1] if named else item
        if looks_like_path(candidate):
            found.append(candidate.removeprefix("file://"))
    return found


def looks_like_path(text: str) -> bool:
    """Whether `text` may name something in the file system: by a slash, a file's ending, or a ~ or .. in front."""
    if not text or _REPOSITORY.fullmatch(text):
        return False
    return (
        "/" in text
        or "\\" in text
        or text.startswith("~")
        or text in (".", "..")
        or _FILE_ENDING.fullmatch(text) is not None
    )


def _texts_in_json(text: str) -> list[str]:
    """The texts inside `text` if it is JSON of more than a number; none for a path that begins with a bracket."""
    if text.lstrip()[:1] not in ("{", "[", '"'):
        return []
    try:
        return list(_texts_in(json.loads(text)))
    except (ValueError, RecursionError):
        return []


def _texts_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from _texts_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts_in(inner)
