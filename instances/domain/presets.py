"""Reading ``preset_ini``: the file of model presets for llama-server's router mode.

Format: llama.cpp's server README, "Model presets": sections are models, ``[*]`` holds what all share, keys are
arguments without dashes, short ones too, or their environment variables (``LLAMA_ARG_...``). Read line by line and not
with configparser, which takes an indented line as a continuation of the value before, so that a key could hide in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from instances.errors import InvalidOptions

PRESET_BYTES = 256 * 1024
FIELD = "preset_ini"
SECTION = re.compile(r"\[([^\[\]]+)\]\s*([#;].*)?")
SETTING = re.compile(r"([^=\s][^=]*?)\s*=\s*(.*)")


@dataclass(frozen=True)
class PresetLine:
    """One setting; ``section`` is empty before the first header."""

    section: str
    key: str
    value: str


def read_preset(text: str) -> list[PresetLine]:
    """Return the settings of a preset file in their order, repeated ones too.

    Raises InvalidOptions naming the first line that is none, or when the file is larger than 256 KiB.
    """
    if len(text.encode()) > PRESET_BYTES:
        raise refuse(f"it is larger than {PRESET_BYTES // 1024} KiB")
    section = ""
    found: list[PresetLine] = []
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith(("#", ";")):
            continue
        if header := SECTION.fullmatch(stripped):
            section = header[1].strip()
        elif setting := SETTING.fullmatch(stripped):
            found.append(PresetLine(section, setting[1], setting[2]))
        else:
            raise refuse(f"line {number} is neither [section] nor name = value")
    return found


def refuse(fault: str) -> InvalidOptions:
    """Return the error for a preset that can't be used."""
    message = f"preset_ini can't be used: {fault}."
    return InvalidOptions(message, fields={FIELD: message})
