"""Decode the `backend_options` of a client by an engine's catalogue."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from instances.backends.base import (
    NormalizedOptions,
    OptionError,
    OptionField,
    OptionKind,
)
from instances.backends.fields import FieldIndex, plain_name
from instances.backends.files import check_file_names
from instances.backends.values import (
    as_json_text,
    check_text,
    decode,
    is_absent,
    scalar_text,
)

EXTRA = "extra_args"
BARE = ("", "true")
"""Values of an extra argument that stand for a flag without a value. To pass such a text itself, write a list."""

_FLAG_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,127}", re.ASCII)
_HOST = re.compile(r"\[?[0-9A-Fa-f:.]+(%[\w.-]+)?\]?|[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252})", re.ASCII)
_MOST_OPTIONS = 1000

ExtraValue = str | bool | list[str | bool]


def normalize(index: FieldIndex, raw: object) -> NormalizedOptions:
    """Options in canonical names and types, those of the catalogue first and in its order, then `extra_args`.

    Every name may be written with `-` or `_`, with leading dashes, or as an alias. Numbers may come as text. What
    the catalogue doesn't know becomes an extra argument; what it does know is taken out of `extra_args`, so that a
    permission or a port can't be evaded there. Absent, null and empty are the same; zero and false are values.
    Raises OptionError.
    """
    given = _as_object("backend_options", raw)
    extra_given = _as_object(EXTRA, next((given[key] for key in given if plain_name(key) == EXTRA), None))
    sources = [(key, value, False) for key, value in given.items() if plain_name(key) != EXTRA]
    sources += [(key, value, True) for key, value in extra_given.items()]
    if len(sources) > _MOST_OPTIONS:
        raise OptionError("backend_options", f"has {len(sources)} options; at most {_MOST_OPTIONS} are allowed")
    known = _KnownOptions()
    extra: dict[str, ExtraValue] = {}
    for key, value, is_extra in sources:
        if option := index.find(key):
            known.add(option, key, value, is_extra=is_extra)
        else:
            _add_extra(extra, key, value)
    _check_address(known.values)
    options = {option.name: known.values[option.name] for option in index.fields if option.name in known.values}
    if extra:
        options[EXTRA] = extra
    return NormalizedOptions(options, known.warnings)


def _as_object(name: str, raw: object) -> Mapping[str, Any]:
    if raw is None:
        return {}
    if not isinstance(raw, Mapping) or not all(isinstance(key, str) for key in raw):
        raise OptionError(name, 'must be an object of options; write something like {"model": "..."}')
    return raw


class _KnownOptions:
    """The options of the catalogue found so far."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.warnings: list[str] = []
        self._spelled: dict[str, str] = {}

    def add(self, option: OptionField, key: str, value: object, *, is_extra: bool) -> None:
        if is_extra and value in BARE and (option.kind is OptionKind.BOOL or option.switch):
            value = True
        decoded = "" if is_absent(value) else decode(option, value)
        if is_absent(decoded):
            return
        check_file_names(option, decoded)
        name = option.name
        if name not in self.values or self.values[name] == decoded:
            self.values[name] = decoded
            self._spelled.setdefault(name, key)
        elif is_extra and option.kind is OptionKind.LIST:
            self.values[name] = [*self.values[name], *decoded]
        else:
            self._settle(name, key, decoded, keep_first=is_extra or plain_name(key) == name)

    def _settle(self, name: str, key: str, value: object, *, keep_first: bool) -> None:
        """An alias wins over the canonical name, as llamactl has it; what stands outside extra_args wins over it."""
        kept, dropped = (self._spelled[name], key) if keep_first else (key, self._spelled[name])
        self.warnings.append(f'"{dropped}" was ignored: it means {name}, which "{kept}" already sets')
        if not keep_first:
            self.values[name] = value
            self._spelled[name] = key


def _add_extra(extra: dict[str, ExtraValue], key: str, value: object) -> None:
    name = plain_name(key)
    if not _FLAG_NAME.fullmatch(name):
        shown = check_text(EXTRA, key[:60])
        raise OptionError(EXTRA, f'"{shown}" is not the name of a flag; use letters, digits, "-", "_" and "." only')
    if (decoded := decode_extra(name, value)) is not None:
        extra[name] = decoded


def decode_extra(name: str, value: object) -> ExtraValue | None:
    """The value of an extra argument: text ("" or "true" a bare flag), False (nothing), or a list of repetitions.

    In a list every text is a value, and True is the bare flag once more. None when it says nothing.
    """
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else False
    if isinstance(value, Mapping):
        return as_json_text(name, value)
    if not isinstance(value, list | tuple):
        return scalar_text(name, value)
    items: list[str | bool] = [
        True if item is True else scalar_text(name, item) for item in value if item is not None and item is not False
    ]
    if len(items) == 1:
        only = items[0]
        return "true" if only is True else items if only in BARE else only
    return items or None


def _check_address(known: dict[str, Any]) -> None:
    port = known.get("port")
    if port is not None and not 0 <= port <= 65535:
        raise OptionError("port", f"{port} is not a port; write 1 to 65535, or leave it out to have one assigned")
    host = known.get("host")
    if host is not None and not _HOST.fullmatch(host):
        raise OptionError("host", f'"{host[:60]}" is not a host; write an IP address or a host name')
