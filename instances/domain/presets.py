"""Reading ``preset_ini``: the file of model presets for llama-server's router mode.

Format: llama.cpp's server README, "Model presets": sections are models, ``[*]`` holds what all share, keys are
arguments without dashes, short ones too, or their environment variables (``LLAMA_ARG_...``).
"""

from __future__ import annotations

import configparser
from collections.abc import Iterator

from instances.backends.base import Backend, OptionError
from instances.errors import InvalidOptions

PRESET_BYTES = 256 * 1024
FIELD = "preset_ini"
TOP = "\1"
"""Name of the section that stands for what comes before the first one; no file can hold it."""


def read_preset(text: str) -> dict[str, dict[str, str]]:
    """Return the sections of a preset file; keys before the first section are in section ``""``.

    Raises InvalidOptions naming the line when it isn't one, or when it is larger than 256 KiB.
    """
    if len(text.encode()) > PRESET_BYTES:
        raise refuse(f"it is larger than {PRESET_BYTES // 1024} KiB")
    parser = configparser.RawConfigParser(
        strict=False, allow_no_value=True, delimiters=("=",), comment_prefixes=("#", ";"), default_section="\0"
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys are case-sensitive: -C is not -c
    try:
        parser.read_string(f"[{TOP}]\n{text}")
    except configparser.Error as error:
        raise refuse(describe_fault(error)) from None
    return {
        "" if section == TOP else section: {key: value or "" for key, value in parser.items(section)}
        for section in parser.sections()
    }


def describe_fault(error: configparser.Error) -> str:
    """Return where the file is wrong, counting lines as the user sees them."""
    line = getattr(error, "lineno", None) or next((number for number, _ in getattr(error, "errors", [])), None)
    if isinstance(line, int) and line > 1:
        return f"line {line - 1} is neither a [section] nor name = value"
    return "it is not a list of [section] and name = value lines"


def refuse(fault: str) -> InvalidOptions:
    """Return the error for a preset that can't be used."""
    message = f"preset_ini can't be used: {fault}."
    return InvalidOptions(message, fields={FIELD: message})


def files_named_by_preset(backend: Backend, text: str) -> Iterator[tuple[str, str]]:
    """Yield (option, path) for everything in the preset that may name a file of the host; errs on the side of yes."""
    for section in read_preset(text).values():
        for key, value in section.items():
            try:
                options = backend.normalize_options({key: value}).options
            except OptionError:
                options = {}
            named = backend.files_named_by(options) if options else []
            if named:
                yield from ((f"{FIELD} {key}", path) for _, path in named)
            elif key.upper().startswith("LLAMA_ARG_") or value.startswith(("/", "~", ".")) or "\\" in value:
                yield f"{FIELD} {key}", value
