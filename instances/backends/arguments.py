"""Normalised options as the arguments of a program. There is no shell: a value is one argument, whatever is in it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from instances.backends.base import ListForm, OptionError, OptionField, OptionKind
from instances.backends.fields import FieldIndex, plain_name
from instances.backends.normalize import BARE, EXTRA, ExtraValue
from instances.backends.values import number_text


@dataclass(frozen=True)
class ArgumentStyle:
    """How an engine reads its arguments.

    `joins_dashed_values`: a value that begins with `-` must be written `--flag=-1`, since argparse takes it for a
    flag otherwise; llama.cpp knows no `=` and takes the next word whatever it is. `short_flags` are flags of several
    letters with one dash (`-tp`). `uncatalogued` describes flags beyond the catalogue whose shape matters.
    `bare_prefixes` begin flags beyond the catalogue that never take a value.
    """

    joins_dashed_values: bool
    short_flags: frozenset[str] = frozenset()
    uncatalogued: tuple[OptionField, ...] = ()
    bare_prefixes: tuple[str, ...] = ()


class ArgumentWriter:
    """Writes options as arguments in the order of the catalogue, extra arguments last."""

    def __init__(self, fields: tuple[OptionField, ...], style: ArgumentStyle) -> None:
        self._fields = fields
        self._style = style
        self._uncatalogued = FieldIndex(style.uncatalogued)

    def write(self, options: Mapping[str, Any], *, leave_out: frozenset[str] = frozenset()) -> list[str]:
        """The arguments for normalised `options` without those named in `leave_out`.

        Zero is written; false is written where the engine has a flag for it. Raises OptionError for a value that the
        engine's own parser can't be given.
        """
        argv: list[str] = []
        for option in self._fields:
            if option.name in options and option.name not in leave_out:
                argv.extend(self._option(option, options[option.name]))
        for key, value in options.get(EXTRA, {}).items():
            argv.extend(self._extra(key, value))
        return argv

    def _option(self, option: OptionField, value: Any) -> Iterator[str]:
        flag = option.long_flag
        if option.kind is OptionKind.BOOL:
            if value:
                yield flag
            elif option.negative:
                yield option.negative
        elif option.kind is OptionKind.LIST:
            yield from self._list(option, flag, value)
        elif option.pair:
            yield from (flag, *shlex.split(value))
        else:
            yield from self._valued(flag, value if isinstance(value, str) else number_text(value))

    def _list(self, option: OptionField, flag: str, values: list[str]) -> Iterator[str]:
        match option.list_form:
            case ListForm.JSON:
                yield from self._valued(flag, json.dumps(values, ensure_ascii=False))
            case ListForm.WORDS if len(values) > 1:
                if any(value.startswith("-") for value in values):
                    raise OptionError(
                        option.name, 'has a value that begins with "-", which the engine takes for a flag'
                    )
                yield from (flag, *values)
            case _:
                for value in values:
                    yield from self._valued(flag, value)

    def _extra(self, key: str, value: ExtraValue) -> Iterator[str]:
        flag = self.extra_flag(key)
        if value is False:
            return
        if value is True or value in BARE:
            yield flag
            return
        items = value if isinstance(value, list) else [value]
        known = self._uncatalogued.find(key)
        texts = [item for item in items if isinstance(item, str)]
        if known and known.kind is OptionKind.LIST and len(texts) == len(items):
            yield from self._list(known, flag, texts)
            return
        for item in items:
            yield from (flag,) if isinstance(item, bool) else self._valued(flag, item)

    def extra_flag(self, key: str) -> str:
        """The flag of an extra argument: `n` -> `-n`, `max_loras` -> `--max-loras`; behind a dot as written."""
        name = plain_name(key)
        head, dot, tail = name.partition(".")
        dashes = "-" if len(name) == 1 or name in self._style.short_flags else "--"
        return dashes + head.replace("_", "-") + dot + tail

    def _valued(self, flag: str, value: str) -> Iterator[str]:
        if self._style.joins_dashed_values and flag.startswith("--") and (value.startswith("-") or not value):
            yield f"{flag}={value}"
        else:
            yield from (flag, value)
