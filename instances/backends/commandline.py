"""Read a pasted command line into options: the superset of what llamactl's parse-command understands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any

from instances.backends.arguments import ArgumentStyle
from instances.backends.base import (
    ListForm,
    OptionError,
    OptionField,
    OptionKind,
    ParsedCommand,
    ParseError,
)
from instances.backends.fields import FieldIndex, plain_name
from instances.backends.normalize import BARE, EXTRA, normalize
from instances.backends.prefixes import CommandShape, strip_prefixes
from instances.backends.shellwords import Word, split_words, without_shell_syntax
from instances.backends.values import NO, SWITCH_WORDS, YES, is_number

_FLAG = re.compile(r"--?([A-Za-z0-9][A-Za-z0-9_.+-]{0,127})", re.ASCII)


class CommandLineParser:
    """Reads the command lines of one engine. `model_options` are the options that say which model is served."""

    def __init__(
        self, index: FieldIndex, style: ArgumentStyle, shape: CommandShape, model_options: Sequence[str]
    ) -> None:
        self._index = index
        self._uncatalogued = FieldIndex(style.uncatalogued)
        self._style = style
        self._shape = shape
        self._model_options = model_options

    def parse(self, text: str) -> ParsedCommand:
        """Options (normalised) and environment of a command line. Raises ParseError."""
        words, environment = strip_prefixes(without_shell_syntax(split_words(text)), self._shape)
        reading = _Reading(self, words)
        try:
            reading.read()
            return ParsedCommand(normalize(self._index, self._options(reading)).options, environment)
        except OptionError as error:
            flag = reading.flags.get(error.field, error.field)
            raise ParseError("parse_error", f"{flag}: {error.message}") from error

    def _options(self, reading: _Reading) -> dict[str, Any]:
        options = dict(reading.options)
        if reading.positionals and not any(name in options for name in self._model_options):
            # llama.cpp knows no positional model, but people paste one; later words have no meaning at all.
            options["model"] = reading.positionals[0]
        if reading.extra:
            options[EXTRA] = {key: _one_or_many(values) for key, values in reading.extra.items()}
        return options

    def find(self, name: str) -> OptionField | None:
        """The catalogue's option of this name."""
        return self._index.find(name)

    def find_uncatalogued(self, name: str) -> OptionField | None:
        """What is known of a flag beyond the catalogue; None: whether it takes a value can only be guessed."""
        if found := self._uncatalogued.find(name):
            return found
        plain = plain_name(name)
        is_bare = any(plain.startswith(prefix) for prefix in self._style.bare_prefixes)
        return OptionField(plain, OptionKind.BOOL) if is_bare else None

    def is_flag(self, word: Word) -> bool:
        """Whether a word that begins with a dash can only be meant as a flag."""
        found = _FLAG.fullmatch(word.text.partition("=")[0])
        if self._style.joins_dashed_values:
            return True
        return found is not None and (self.find(found[1]) or self.find_uncatalogued(found[1])) is not None


class _Reading:
    """One pass over the words from left to right."""

    def __init__(self, parser: CommandLineParser, words: list[Word]) -> None:
        self._parser = parser
        self._words = words
        self._at = 0
        self.options: dict[str, Any] = {}
        self.extra: dict[str, list[str | bool]] = {}
        self.positionals: list[str] = []
        self.flags: dict[str, str] = {}

    def read(self) -> None:
        while self._at < len(self._words):
            word = self._words[self._at]
            self._at += 1
            if word.text == "--":
                self.positionals += [rest.value() for rest in self._words[self._at :]]
                return
            if word.text.startswith("-"):
                self._flag(word)
            else:
                self.positionals.append(word.value())

    def _flag(self, word: Word) -> None:
        flag, sign, _ = word.text.partition("=")
        if not _FLAG.fullmatch(flag):
            raise ParseError("parse_error", f"malformed flag: {flag}")
        joined = word.after_equals().value() if sign else None
        if option := self._parser.find(flag):
            self.flags[option.name] = flag
            self._known(option, flag, joined)
        else:
            self._unknown(flag, joined)

    def _known(self, option: OptionField, flag: str, joined: str | None) -> None:
        name = option.name
        if option.kind is OptionKind.LIST:
            values = [joined] if joined is not None else self._list_values(option, flag)
            self.options.setdefault(name, []).extend(value for text in values for value in _items(option, text))
        elif joined is not None:
            self.options[name] = joined
        elif option.kind is OptionKind.BOOL:
            self.options[name] = self._next_if(YES | NO) or "true"
        elif option.switch:
            self.options[name] = self._next_if(SWITCH_WORDS) or "on"
        elif option.pair:
            self.options[name] = self._pair_value(flag)
        else:
            self.options[name] = self._value(flag)

    def _unknown(self, flag: str, joined: str | None) -> None:
        shape = self._parser.find_uncatalogued(flag)
        values: list[str | bool]
        if joined is not None:
            values = [joined]
        elif shape is not None and shape.kind is OptionKind.LIST:
            values = [*self._list_values(shape, flag)]
        elif shape is not None and shape.kind is OptionKind.BOOL:
            values = [True]
        else:
            following = self._peek()
            is_value = following is not None and (not following.text.startswith("-") or is_number(following.text))
            values = [self._take()] if is_value else [True]
        self.extra.setdefault(plain_name(flag), []).extend(values)

    def _list_values(self, option: OptionField, flag: str) -> list[str]:
        values = [self._value(flag)]
        while option.list_form is ListForm.WORDS and (word := self._peek()) and not word.text.startswith("-"):
            values.append(self._take())
        return values

    def _pair_value(self, flag: str) -> str:
        first = self._value(flag)
        word = self._peek()
        if word is None or (word.text.startswith("-") and not is_number(word.text) and self._parser.is_flag(word)):
            # Both values in one word, as llamactl wrote them: decoding splits it.
            return first
        return shlex.join((first, self._take()))

    def _value(self, flag: str) -> str:
        """The next word as the value of `flag`, even one with a dash where the engine would take it."""
        word = self._peek()
        if word is None:
            raise ParseError("parse_error", f"{flag} needs a value; write one behind it")
        if word.text.startswith("-") and not word.is_quoted and not is_number(word.text) and self._parser.is_flag(word):
            raise ParseError(
                "parse_error", f"{flag} needs a value, but {word.text[:60]} follows; write {flag}=VALUE if that is it"
            )
        return self._take()

    def _next_if(self, words: frozenset[str]) -> str | None:
        word = self._peek()
        return self._take() if word is not None and word.text.lower() in words else None

    def _peek(self) -> Word | None:
        return self._words[self._at] if self._at < len(self._words) else None

    def _take(self) -> str:
        self._at += 1
        return self._words[self._at - 1].value()


def _items(option: OptionField, text: str) -> list[str]:
    if option.list_form is not ListForm.JSON:
        return [text]
    items = normalize(FieldIndex((option,)), {option.name: text}).options.get(option.name, [])
    return list(items)


def _one_or_many(values: list[str | bool]) -> str | bool | list[str | bool]:
    if len(values) == 1:
        only = values[0]
        return "true" if only is True else [only] if only in BARE else only
    return values
