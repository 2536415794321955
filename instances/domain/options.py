"""Turning an instance's options as a client sent them into what Corral stores, or saying which one can't work.

The fields and defaults are llamactl's, and these defaults are written into the stored options, so that a later change
of the settings does not change existing instances. ``pinned``, ``disabled`` and those of ``serving.py`` are additions.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from instances.backends.base import Backend, OptionError
from instances.backends.registry import BACKENDS, LEGACY_OPTION_KEYS, get_backend
from instances.domain.groups import find_group_fault
from instances.domain.launch import read_backend_settings
from instances.domain.names import find_name_fault
from instances.domain.option_readers import OptionReader, shorten
from instances.domain.ports import check_port_number
from instances.domain.presets import read_preset
from instances.domain.serving import SERVING_OPTIONS, read_serving_options
from instances.errors import InvalidOptions

COUNTS = {"max_restarts": 1_000_000, "restart_delay": 366 * 24 * 3600, "idle_timeout": 10 * 366 * 24 * 60}
"""Largest values: a number of times, seconds, minutes."""
NOT_AN_OBJECT = "the options must be a JSON object."
KNOWN = (
    "nodes", "backend_type", "backend_options", "auto_restart", "max_restarts", "restart_delay", "on_demand_start",
    "idle_timeout", "environment", "preset_ini", "docker_enabled", "command_override", "group", "pinned", "disabled",
    *SERVING_OPTIONS,
)  # fmt: skip
LAUNCH_OPTIONS = ("backend_options", "environment", "preset_ini", "docker_enabled", "command_override")
"""Stored options that a running process can't take over: a change of one needs a new process."""


@dataclass(frozen=True)
class WantedInstance:
    """What a client asks for, validated. ``options`` is what the row stores; ``port`` 0 and ``node`` "": choose one."""

    backend_type: str
    options: dict[str, Any]
    port: int
    node: str
    group: str
    pinned: bool
    disabled: bool
    warnings: list[str]


def read_options(raw: object) -> WantedInstance:
    """Validate the options of a new or replaced instance; raise InvalidOptions naming every fault."""
    if not isinstance(raw, Mapping):
        raise InvalidOptions(NOT_AN_OBJECT)
    reader = OptionReader(replace_legacy_key(raw))
    warn_of_unknown_names(reader)
    backend = read_backend(reader)
    given = reader.raw.get("backend_options")
    if isinstance(given, Mapping) and isinstance(port := given.get("port"), int) and not isinstance(port, bool):
        check_port_number(port)
    options: dict[str, Any] = {"backend_options": read_backend_options(reader, backend, given)}
    port = int(options["backend_options"].pop("port", 0) or 0)
    for name in ("auto_restart", "max_restarts", "restart_delay", "on_demand_start", "idle_timeout"):
        value = reader.read_count(name, largest=COUNTS[name]) if name in COUNTS else reader.read_bool(name)
        options[name] = getattr(settings.CORRAL, f"default_{name}") if value is None else value
    options |= read_launch_options(reader, backend)
    options |= read_serving_options(reader)
    wanted = WantedInstance(
        backend_type=backend.type,
        options=options,
        port=port,
        node=read_node(reader),
        group=read_group(reader),
        pinned=bool(reader.read_bool("pinned")),
        disabled=bool(reader.read_bool("disabled")),
        warnings=reader.warnings,
    )
    reader.raise_faults()
    return wanted


def replace_legacy_key(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with an older client's key renamed to ``backend_options``; the newer key wins."""
    options = dict(raw)
    for key, backend_type in LEGACY_OPTION_KEYS.items():
        if key not in options:
            continue
        legacy = options.pop(key)
        options.setdefault("backend_type", backend_type)
        if options["backend_type"] != backend_type:
            fault = f"{key} belongs to backend_type {backend_type}, not {shorten(options['backend_type'])}."
            raise InvalidOptions(fault, fields={key: fault})
        if options.get("backend_options") is None:
            options["backend_options"] = legacy
    return options


def warn_of_unknown_names(reader: OptionReader) -> None:
    """Say which names are no options; llamactl ignores them in silence."""
    for name in reader.raw:
        if name not in KNOWN:
            near = difflib.get_close_matches(name, KNOWN, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            reader.warnings.append(f"{shorten(name)} is not an option and was ignored.{hint}")


def read_backend(reader: OptionReader) -> Backend:
    """Return the engine that ``backend_type`` names; raise InvalidOptions at once, as nothing else can be read then."""
    name = reader.read_text("backend_type")
    if name not in BACKENDS and "backend_type" not in reader.faults:
        given = f"is {shorten(name)}, but" if name else "is missing: it"
        reader.faults["backend_type"] = f"backend_type {given} must be one of {', '.join(sorted(BACKENDS))}."
    reader.raise_faults()
    return get_backend(name)


def read_backend_options(reader: OptionReader, backend: Backend, given: object) -> dict[str, Any]:
    """Return the engine's own options in its canonical form."""
    try:
        normalized = backend.normalize_options(given if given is not None else {})
    except OptionError as error:
        name = error.field if error.field == "backend_options" else f"backend_options.{error.field}"
        reader.faults[name] = f"{name}: {error.message}."
        return {}
    reader.warnings.extend(f"backend_options: {warning}." for warning in normalized.warnings)
    return dict(normalized.options)


def read_launch_options(reader: OptionReader, backend: Backend) -> dict[str, Any]:
    """Return the options beside the engine's own that shape its process. Absent ones stay absent."""
    found: dict[str, Any] = {
        "environment": reader.read_environment("environment"),
        "preset_ini": reader.read_text("preset_ini"),
        "docker_enabled": reader.read_bool("docker_enabled"),
        "command_override": reader.read_text("command_override").strip(),
    }
    if found["docker_enabled"] and not backend.supports_docker:
        reader.warnings.append(f"docker_enabled was ignored: {backend.label} does not run in Docker.")
        found["docker_enabled"] = None
    if found["preset_ini"] and not any(field.name == "models_preset" for field in backend.fields):
        reader.warnings.append(f"preset_ini was ignored: {backend.label} reads no presets.")
        found["preset_ini"] = ""
    if found["preset_ini"]:
        try:
            read_preset(found["preset_ini"])
        except InvalidOptions as error:
            reader.faults |= error.fields
    if found["command_override"]:
        reason = find_override_conflict(backend, found["docker_enabled"])
        if reason:
            reader.warnings.append(f"command_override was ignored: {reason}.")
            found["command_override"] = ""
        elif any(not character.isprintable() for character in found["command_override"]):
            reader.faults["command_override"] = "command_override must be a path without control characters."
    return {name: value for name, value in found.items() if value not in (None, "", {})}


def find_override_conflict(backend: Backend, docker_enabled: bool | None) -> str:
    """Return why ``command_override`` has no effect here, or an empty text."""
    configured = read_backend_settings(backend)
    if not configured.command:
        return "the command is among backend_options already"
    in_docker = configured.docker_enabled if docker_enabled is None else docker_enabled
    return "the engine runs in Docker" if in_docker and backend.supports_docker else ""


def read_node(reader: OptionReader) -> str:
    """Return the one node asked for, or an empty text for "this one"."""
    names = sorted(set(reader.read_texts("nodes") or []))
    if len(names) > 1:
        reader.faults["nodes"] = "nodes must name one node: an instance runs on one host."
    return names[0] if names else ""


def read_group(reader: OptionReader) -> str:
    """Return the group, which must satisfy the rule for names; empty when there is none. Warns of an undefined one."""
    group = reader.read_text("group")
    if group and (fault := find_name_fault(group)):
        reader.faults["group"] = f"group: {fault}."
    elif warning := find_group_fault(group, groups=settings.CORRAL.groups, limits=settings.CORRAL.group_limits):
        reader.warnings.append(f"group: {warning[0].lower()}{warning[1:]}")
    return group
