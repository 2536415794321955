"""Find the local files and folders that options name, so that permission rules can check them."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from instances.backends.base import NamesFile, OptionField
from instances.backends.normalize import BARE, EXTRA

_REPOSITORY = re.compile(r"(hf://)?[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(:[\w.-]+)?(@[\w.-]+)?", re.ASCII)
_URL = re.compile(r"(?!file:)[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_FILE_ENDING = re.compile(
    r".+\.(gguf|bin|safetensors|pt|pth|json|jsonl|ya?ml|toml|ini|jinja2?|j2|txt|log|pem|key|crt|cert|py|so|db|sock|env)",
    re.IGNORECASE | re.DOTALL,
)
_SCALE = re.compile(r"(.+?)[:=][+-]?[0-9.]+", re.DOTALL)
_TEMPLATE = re.compile(r"\{\{|\{%")
_NAMED = re.compile(r"[\w.-]+=(.+)", re.DOTALL)


def files_named_by(fields: tuple[OptionField, ...], options: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(option, path text) for every file or folder in normalised options, `extra_args.<flag>` for the extra ones.

    A text that might be a path is reported; a Hugging Face repository id (`org/name`) and a URL are not paths.
    """
    found: list[tuple[str, str]] = []
    for option in fields:
        if option.names_file is not NamesFile.NO and option.name in options:
            value = options[option.name]
            for text in value if isinstance(value, list) else [value]:
                found += [(option.name, path) for path in _paths(option.names_file, text)]
    for key, value in options.get(EXTRA, {}).items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and text not in BARE:
                found += [(f"{EXTRA}.{key}", path) for path in possible_paths(text)]
    return found


def _paths(kind: NamesFile, text: str) -> Iterator[str]:
    if kind is NamesFile.YES:
        yield text
    elif kind is NamesFile.MANY:
        for item in _comma_items(text):
            scaled = _SCALE.fullmatch(item)
            yield scaled[1] if scaled else item
    else:
        yield from possible_paths(text)


def _comma_items(text: str) -> list[str]:
    # llama.cpp reads these lists as one row of CSV, with double quotes around a path that has a comma.
    try:
        return [item for row in csv.reader([text]) for item in row if item] or [text]
    except csv.Error:
        return [text]


def possible_paths(text: str) -> list[str]:
    """Every path in `text`: the text itself, what stands behind `name=`, list items, and the texts inside JSON."""
    if text.lstrip()[:1] in ("{", "[", '"'):
        try:
            return [path for part in _texts_in(json.loads(text)) for path in possible_paths_of_text(part)]
        except (ValueError, RecursionError):
            # Not JSON after all: a template, perhaps, or a path that begins with a bracket.
            return possible_paths_of_text(text)
    return possible_paths_of_text(text)


def possible_paths_of_text(text: str) -> list[str]:
    """As `possible_paths`, for a text that is not JSON."""
    if _TEMPLATE.search(text) or ("\n" in text and not text.startswith(("/", "~", "."))):
        return []
    found: list[str] = []
    for item in dict.fromkeys([text, *text.split(",")]) if "," in text else [text]:
        named = _NAMED.fullmatch(item)
        candidate = named[1] if named else item
        if looks_like_path(candidate):
            found.append(candidate.removeprefix("file://"))
    return found


def looks_like_path(text: str) -> bool:
    """Whether `text` may name something in the file system: by a slash, a file's ending, or a ~ or .. in front."""
    if not text or _URL.match(text):
        return False
    if _REPOSITORY.fullmatch(text) and ".." not in text.split("/"):
        return text.startswith(".")
    return (
        "/" in text
        or "\\" in text
        or text.startswith("~")
        or text in (".", "..")
        or _FILE_ENDING.fullmatch(text) is not None
    )


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
