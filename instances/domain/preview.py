"""Showing the command line that options lead to, before anything is saved or started."""

from __future__ import annotations

import shlex
from pathlib import Path

from django.conf import settings

from accounts.domain.masking import MASK, mask_arguments, mask_options
from instances.backends.base import Command, Launch, OptionError
from instances.backends.llama_cpp.backend import LlamaCppBackend
from instances.backends.registry import get_backend
from instances.domain.launch import ENGINE_HOST, read_backend_settings
from instances.domain.options import KNOWN, WantedInstance
from instances.errors import InvalidOptions
from instances.models import Instance


def describe_command(instance: Instance) -> str:
    """Return the command line of an instance's next start, without secrets. Raises InvalidOptions."""
    return preview_command(name=instance.name, wanted=stored_definition(instance))


def describe_command_in_one_line(instance: Instance) -> str:
    """Return the same in one line and without the variables. Raises InvalidOptions."""
    command = build_masked_command(name=instance.name, wanted=stored_definition(instance))
    return " ".join(shlex.join(mask_arguments(command.argv)).split())


def stored_definition(instance: Instance) -> WantedInstance:
    """Return what an instance's row says, in the shape of what a client asks for."""
    return WantedInstance(
        backend_type=instance.backend_type,
        options=instance.options,
        port=instance.port,
        node=instance.node.name,
        group=instance.group,
        pinned=instance.pinned,
        disabled=instance.disabled,
        warnings=[],
    )


def preview_command(*, name: str, wanted: WantedInstance) -> str:
    """Return the command line as one would type it into a shell: variables first, one option on each line.

    Values of variables and of options that are secrets are masked. Where the port is still to be chosen, the first
    of the range stands for it. Raises InvalidOptions when the options can't be turned into a command.
    """
    command = build_masked_command(name=name, wanted=wanted)
    variables = [f"{variable}={MASK}" for variable in command.environment]
    return " \\\n  ".join([*variables, *group_arguments(mask_arguments(command.argv))])


def build_masked_command(*, name: str, wanted: WantedInstance) -> Command:
    """Return the process that options lead to, the options' own secrets masked. Raises InvalidOptions."""
    backend = get_backend(wanted.backend_type)
    options = wanted.options
    configured = read_backend_settings(backend)
    docker = options.get("docker_enabled")
    launch = Launch(
        instance_name=name or "name",
        backend_options=mask_options(options.get("backend_options") or {}),
        host=ENGINE_HOST,
        port=wanted.port or settings.CORRAL.ports[0],
        settings=configured,
        environment=options.get("environment") or {},
        command_override=options.get("command_override") or "",
        docker_enabled=backend.supports_docker and (configured.docker_enabled if docker is None else docker),
        container_name=f"corral-{name or 'name'}",
        preset_path=Path("preset.ini") if options.get("preset_ini") else None,
    )
    try:
        return backend.build_command(launch)
    except OptionError as error:
        name = error.field if error.field in KNOWN else f"backend_options.{error.field}"
        raise InvalidOptions(str(error), fields={name: error.message}) from None


def lacks_model(instance: Instance) -> bool:
    """Whether the instance is llama.cpp's router without a model, repository, folder or preset to serve."""
    backend, options = get_backend(instance.backend_type), instance.options
    if not isinstance(backend, LlamaCppBackend) or options.get("preset_ini"):
        return False
    names = {*backend.model_options, *(field.name for field in backend.fields if field.group == "presets")}
    engine, environment = options.get("backend_options") or {}, options.get("environment") or {}
    return not any(engine.get(name) or environment.get(f"LLAMA_ARG_{name.upper()}") for name in names)


def group_arguments(argv: list[str]) -> list[str]:
    """Return the arguments quoted for a shell, each option together with its values; the program begins the first."""
    groups: list[list[str]] = []
    for word in argv:
        if not groups or (word.startswith("-") and not is_negative_number(word)):
            groups.append([])
        groups[-1].append(word)
    return [shlex.join(group) for group in groups]


def is_negative_number(word: str) -> bool:
    """Whether a word with a dash is a value."""
    try:
        float(word)
    except ValueError:
        return False
    return True
