"""One option's value: from what a client sent to the option's own type, and from there to the text of an argument."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from instances.backends.base import OptionError, OptionField, OptionKind

YES = frozenset({"true", "on", "1", "yes"})
NO = frozenset({"false", "off", "0", "no"})
_SWITCH = {"on": YES | {"enabled"}, "off": NO | {"disabled"}, "auto": frozenset({"auto", "-1"})}
SWITCH_WORDS = frozenset(word for words in _SWITCH.values() for word in words)
LONGEST_ARGUMENT = 128_000
"""Bytes. Linux refuses a single argument of 128 KiB or more (MAX_ARG_STRLEN, execve(2))."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_SUFFIXED = re.compile(r"(\d{1,15}(?:\.\d{1,15})?)([kKmMgGtT])", re.ASCII)
_POWER = {"k": 1, "m": 2, "g": 3, "t": 4}
# Text such as a grammar has line breaks and tabs; the other control characters only come from an attack or an accident.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1


def is_number(text: str) -> bool:
    """Whether a word is a decimal number, so that a `-` in front is its sign and not a flag's."""
    return _NUMBER.fullmatch(text) is not None


def check_text(name: str, text: str) -> str:
    """`text` itself if it can be an argument of a program. Raises OptionError."""
    if found := _FORBIDDEN.search(text):
        raise OptionError(name, f"contains the control character U+{ord(found[0]):04X}; remove it")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise OptionError(
            name, "is not valid Unicode text (half of a surrogate pair); remove the broken character"
        ) from None
    if size > LONGEST_ARGUMENT:
        raise OptionError(name, f"is longer than {LONGEST_ARGUMENT} bytes; put it into a file and name the file")
    return text


def as_json_text(name: str, value: object) -> str:
    """A nested value as compact JSON text. Raises OptionError for what JSON can't hold."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        raise OptionError(name, "can't be written as JSON; send text, numbers, lists and objects only") from None
    return check_text(name, text)


def is_absent(value: object) -> bool:
    """Whether a value says nothing: null, empty text, an empty list. Zero and false do say something."""
    return value is None or value in ("", [], {})


def decode(option: OptionField, value: object) -> Any:
    """`value` in the type of `option`; the empty string when it turns out to say nothing. Raises OptionError."""
    match option.kind:
        case OptionKind.BOOL:
            return _decode_bool(option.name, value)
        case OptionKind.INT:
            return _decode_int(option, value)
        case OptionKind.FLOAT:
            return _decode_float(option.name, value)
        case OptionKind.LIST:
            return _decode_list(option, value)
        case _:
            return _decode_text(option, value)


def _decode_bool(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower() if isinstance(value, str | int | float) else ""
    if word in YES:
        return True
    if word in NO:
        return False
    raise OptionError(name, f"{_shown(value)} is neither true nor false; write true or false")


def _decode_int(option: OptionField, value: object) -> int:
    number: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, float) and value.is_integer():
        number = int(value)
    elif isinstance(value, str):
        number = _read_int(option, value.strip())
    if number is None:
        example = " or a size such as 32k" if option.suffixes else ""
        words = "".join(f" or {word}" for word, _ in option.words)
        raise OptionError(option.name, f"{_shown(value)} is not a whole number; write one such as 4096{example}{words}")
    if not _SMALLEST <= number <= _LARGEST:
        raise OptionError(option.name, "is beyond 64 bits; write a smaller number")
    return number


def _read_int(option: OptionField, text: str) -> int | None:
    for word, meaning in option.words:
        if text.lower() == word:
            return meaning
    if option.suffixes and (found := _SUFFIXED.fullmatch(text)):
        # vLLM: a small letter counts in thousands, a capital one in 1024s and then allows no fraction.
        letter = found[2]
        number = Decimal(found[1]) * (1000 if letter.islower() else 1024) ** _POWER[letter.lower()]
        return int(number) if letter.islower() or "." not in found[1] else None
    if len(text) > 64 or not is_number(text):
        return None
    decimal = Decimal(text)
    return int(decimal) if decimal == decimal.to_integral_value() else None


def _decode_float(name: str, value: object) -> float:
    number: float | None = None
    if isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(value, float) or _SMALLEST <= value <= _LARGEST:
            number = float(value)
    elif isinstance(value, str) and len(value) <= 400 and is_number(value.strip()):
        number = float(value)
    if number is None:
        raise OptionError(name, f"{_shown(value)} is not a number; write one such as 0.7")
    if not math.isfinite(number):
        raise OptionError(name, "must be finite; write a number such as 0.7")
    # 1.0 and 1 are one number to JSON and to every engine; the shorter form is what people wrote.
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _decode_text(option: OptionField, value: object) -> str:
    name = option.name
    if option.switch:
        return _decode_switch(name, value)
    if option.pair:
        return _decode_pair(name, value)
    if isinstance(value, str):
        return check_text(name, value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number_text(value)
    if isinstance(value, Mapping):
        return as_json_text(name, value)
    raise OptionError(name, f"{_shown(value)} is not a text; write one text")


def _decode_switch(name: str, value: object) -> str:
    """on, off or auto, in whichever of llama.cpp's spellings it was written."""
    word = str(value).strip().lower() if isinstance(value, str | bool | int) else ""
    for meaning, spellings in _SWITCH.items():
        if word in spellings:
            return meaning
    raise OptionError(name, f"{_shown(value)} is not a setting; write on, off or auto")


def _decode_pair(name: str, value: object) -> str:
    """Two values, kept as one text that a shell would split into two words."""
    words: list[str] = []
    if isinstance(value, list | tuple):
        words = [scalar_text(name, item) for item in value]
    elif isinstance(value, str):
        try:
            words = shlex.split(check_text(name, value))
        except ValueError:
            words = []
        if len(words) == 1 and words[0].count(",") == 1:
            words = words[0].split(",")
    if len(words) != 2:
        raise OptionError(name, f"{_shown(value)} is not two values; write two with a space between them")
    return shlex.join(words)


def _decode_list(option: OptionField, value: object) -> list[str]:
    if isinstance(value, str) and value.lstrip().startswith("[") and option.list_form.value == "json":
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise OptionError(option.name, 'is not a JSON list; write one such as ["a", "b"]') from None
    items = value if isinstance(value, list | tuple) else [value]
    return [text for item in items if not is_absent(item) and (text := scalar_text(option.name, item))]


def scalar_text(name: str, value: object) -> str:
    """A value of no known type as the text an engine is to get: numbers in decimals, nested values as JSON."""
    if isinstance(value, str):
        return check_text(name, value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        if isinstance(value, int) and not _SMALLEST <= value <= _LARGEST:
            raise OptionError(name, "is beyond 64 bits; write a smaller number or a text")
        return number_text(value) if math.isfinite(value) else as_json_text(name, value)
    return as_json_text(name, value)


def number_text(value: float) -> str:
    """The shortest decimal form without an exponent, which not every engine reads: 1e-05 -> 0.00001."""
    if isinstance(value, int):
        return str(value)
    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=True)[:200]
    short = text if len(text) <= 60 else text[:57] + "..."
    return f'"{short}"' if isinstance(value, str) else short
