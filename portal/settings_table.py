"""``corral settings``: every setting with its value, or as the page docs/settings.md."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import msgspec

from portal.env import PREFIX, Settings, load_settings, setting_meta

INTRODUCTION = """\
# Settings

Written by `corral settings --markdown`; a test keeps it in step with `portal/env.py`.

A setting is an environment variable, the content of the file that `<NAME>_FILE` names (for mounted secrets), or a name
in `corral.yaml`: with or without the prefix, in upper or lower case. The environment wins. `corral.yaml` is looked for
in the working folder, in `~/.config/corral/` and in `/etc/corral/`; `CORRAL_CONFIG` names another file. Lists are
separated by commas (arguments by spaces), maps look like `name=value,name=value`, truth values are `true` or `false`.
A variable of llamactl in the last column is read when Corral's own is not set. A bad value stops the start with a
sentence that names it; `corral settings` shows what is in effect.

| setting | type | default | meaning | also read |
|---|---|---|---|---|
"""
TYPE_NAMES = {str: "text", int: "number", float: "number", bool: "truth value", Path: "path"}


def run_settings(arguments: Sequence[str]) -> int:
    """Print the settings in effect, or the manual page."""
    parser = argparse.ArgumentParser(prog="corral settings", description="Show every setting and its value.")
    parser.add_argument("--markdown", action="store_true", help="print the manual page instead")
    options = parser.parse_args(arguments)
    if options.markdown:
        print(make_page(), end="")
        return 0
    settings = load_settings()
    for field in msgspec.structs.fields(Settings):
        value = getattr(settings, field.name)
        shown = "***" if is_secret(field) and value else show_value(value)
        print(f"{PREFIX}{field.name.upper()}={shown}")
    return 0


def make_page() -> str:
    """Return docs/settings.md."""
    return INTRODUCTION + "".join(make_row(field) for field in msgspec.structs.fields(Settings))


def make_row(field: msgspec.structs.FieldInfo) -> str:
    """Return one line of the table."""
    meta = setting_meta(field)
    alias, example = (meta.extra or {})["alias"], (meta.extra or {})["example"]
    meaning = f"{meta.description} For example `{example}`." if example else str(meta.description)
    cells = [
        f"`{PREFIX}{field.name.upper()}`",
        "JSON" if example else name_type(field.type),
        show_default(field),
        meaning.replace("|", "\\|"),
        f"`{alias}`" if alias else "",
    ]
    return "| " + " | ".join(cells) + " |\n"


def name_type(kind: Any) -> str:
    """Return a type in words, with its limits."""
    inner, *rest = get_args(kind)
    limits = [limit for meta in rest for limit in describe_limits(meta)]
    if hasattr(inner, "__metadata__"):
        return name_type(inner)
    origin = getattr(inner, "__origin__", inner)
    name = {list: "list", dict: "map"}.get(origin) or TYPE_NAMES[inner]
    return " ".join([name, *limits])


def describe_limits(meta: Any) -> list[str]:
    """Return "from 1" and "to 9" for a msgspec Meta."""
    limits = []
    if getattr(meta, "ge", None) is not None:
        limits.append(f"from {meta.ge}")
    if getattr(meta, "le", None) is not None:
        limits.append(f"to {meta.le}")
    return limits


def show_default(field: msgspec.structs.FieldInfo) -> str:
    """Return a field's default as one would write it in a variable."""
    if field.name == "data_dir":
        return "`~/.local/share/corral`"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    shown = show_value(value)
    return f"`{shown}`" if shown else "empty"


def show_value(value: object) -> str:
    """Return a value as text for a variable."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, msgspec.Struct) or (isinstance(value, dict) and not is_plain(value)):
        return "" if value == type(value)() else msgspec.json.encode(value).decode()
    if isinstance(value, dict):
        return ",".join(f"{key}={text}" for key, text in value.items())
    if isinstance(value, list):
        return ("," if all(" " not in str(item) and not str(item).startswith("-") for item in value) else " ").join(
            map(str, value)
        )
    return str(value)


def is_plain(value: dict[str, object]) -> bool:
    """Whether a map holds nothing that has parts of its own."""
    return not any(isinstance(part, msgspec.Struct) for part in value.values())


def is_secret(field: msgspec.structs.FieldInfo) -> bool:
    """Whether the value must not be shown."""
    return bool((setting_meta(field).extra or {})["secret"])
