"""The options that say how requests reach an instance: its other names, its queue, time-outs and idleness.

None of them needs a new process. One that is absent is not stored: what it means then is the settings' to say, now and
after they change. Zero, false and -1 are values and stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from django.conf import settings

from instances.domain.names import ALIASES_LIMIT, find_alias_fault, find_model_name_fault
from instances.domain.option_readers import OptionReader, shorten

YEAR_S = 366 * 24 * 3600
MANY = 1_000_000


class Bounds(NamedTuple):
    """The values an option may have, and what the smallest one means."""

    smallest: int
    largest: int
    meaning: str


NUMBERS: Mapping[str, Bounds] = {
    "ttl": Bounds(-1, 10 * YEAR_S, "-1: idle_timeout counts, 0: never"),
    "concurrency_limit": Bounds(0, MANY, "0: no limit"),
    "queue_limit": Bounds(0, MANY, "0: the setting CORRAL_QUEUE_LIMIT"),
    "queue_timeout": Bounds(0, YEAR_S, "seconds; 0: the setting CORRAL_ON_DEMAND_START_TIMEOUT"),
    "priority": Bounds(-MANY, MANY, "higher goes first"),
    "connect_timeout": Bounds(0, YEAR_S, "seconds; 0: the default"),
    "first_byte_timeout": Bounds(0, YEAR_S, "seconds; 0: no limit"),
    "idle_stream_timeout": Bounds(0, YEAR_S, "seconds; 0: no limit"),
}
SWITCHES = ("send_loading_state", "preload", "unlisted")
SERVING_OPTIONS = ("aliases", "use_model_name", *NUMBERS, *SWITCHES)


def read_serving_options(reader: OptionReader) -> dict[str, Any]:
    """Return the options of this module that were given, valid ones; the others are noted as faults."""
    found: dict[str, Any] = {"aliases": read_aliases(reader), "use_model_name": read_model_name(reader)}
    for name, bounds in NUMBERS.items():
        found[name] = reader.read_integer(name, bounds.smallest, bounds.largest, bounds.meaning)
    for name in SWITCHES:
        found[name] = reader.read_bool(name)
    return {name: value for name, value in found.items() if value is not None and value not in ("", [])}


def read_aliases(reader: OptionReader) -> list[str]:
    """Return the other names, trimmed, each once."""
    value = reader.raw.get("aliases")
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        reader.faults["aliases"] = 'aliases must be a list of texts, such as ["org/model:latest"].'
        return []
    aliases: dict[str, None] = {}
    for alias in map(str.strip, value):
        if fault := find_alias_fault(alias):
            reader.faults["aliases"] = f"aliases: {shorten(alias)} {fault}."
            return []
        if alias in aliases:
            reader.warnings.append(f"aliases: {shorten(alias)} was given twice and counts once.")
        aliases[alias] = None
    if len(aliases) > ALIASES_LIMIT:
        reader.faults["aliases"] = f"aliases: at most {ALIASES_LIMIT} are possible, not {len(aliases)}; remove some."
    return list(aliases)


def read_model_name(reader: OptionReader) -> str:
    """Return what the engine shall get as ``model``, trimmed; empty: nothing is replaced."""
    name = reader.read_text("use_model_name").strip()
    if name and (fault := find_model_name_fault(name)):
        reader.faults["use_model_name"] = f"use_model_name {fault}."
    return name


def effective_ttl_s(options: Mapping[str, Any]) -> int:
    """Return after how many seconds without a request an instance with these stored options stops; 0 means never.

    ``ttl`` (seconds) counts where it is given and not -1, otherwise ``idle_timeout`` (minutes).
    """
    ttl = options.get("ttl", -1)
    if ttl >= 0:
        return int(ttl)
    return 60 * int(options.get("idle_timeout", settings.CORRAL.default_idle_timeout) or 0)


def describe_ttl(ttl_s: int) -> str:
    """Say a time to live in the unit it was likely given in."""
    return f"{ttl_s // 60} min" if ttl_s % 60 == 0 else f"{ttl_s} s"
