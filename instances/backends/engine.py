"""What engines with a catalogue of flags have in common; each engine's own folder adds its peculiarities."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from instances.backends.arguments import ArgumentStyle, ArgumentWriter
from instances.backends.base import (
    Backend,
    Command,
    Launch,
    NormalizedOptions,
    OptionError,
    ParsedCommand,
    Privilege,
    Readiness,
    Risk,
)
from instances.backends.commandline import CommandLineParser
from instances.backends.docker import (
    docker_argv,
    plan_container,
    remove_container_argv,
    stop_container_argv,
)
from instances.backends.fields import FieldIndex
from instances.backends.files import files_named_by
from instances.backends.normalize import EXTRA, normalize
from instances.backends.prefixes import CommandShape

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*", re.ASCII)
_HEALTH = Readiness("/health")


class FlagBackend(Backend):
    """An engine driven by command-line flags. Subclasses set the class attributes and override the hooks below."""

    style: ArgumentStyle
    shape: CommandShape
    model_options: Sequence[str] = ("model",)
    code_sources: Sequence[str] = ("model",)
    """Options that say whose code an option of `Risk.MODEL_CODE` would run."""

    def __init__(self) -> None:
        self._index = FieldIndex(self.fields)
        self._writer = ArgumentWriter(self.fields, self.style)
        self._parser = CommandLineParser(self._index, self.style, self.shape, self.model_options)

    def normalize_options(self, raw: object) -> NormalizedOptions:
        """See `normalize.normalize`."""
        return normalize(self._index, raw)

    def parse_command(self, text: str) -> ParsedCommand:
        """See `commandline.CommandLineParser.parse`."""
        return self._parser.parse(text)

    def readiness(self, options: Mapping[str, Any]) -> Readiness:
        """GET /health answers 200 once the model is loaded; none of these engines asks a key for it."""
        return _HEALTH

    def served_model(self, options: Mapping[str, Any]) -> str | None:
        """The model as the engine was told it."""
        return options.get("model")

    def files_named_by(self, options: Mapping[str, Any]) -> list[tuple[str, str]]:
        """See `files.files_named_by`."""
        return files_named_by(self.fields, options)

    def privileges_in(self, options: Mapping[str, Any]) -> list[Privilege]:
        """The catalogued options that carry a risk, and every option that isn't catalogued.

        Those unknown are all refused, since engines accept abbreviations and gain options that run code. What is
        false or zero asks for nothing. Code of a model is approved for that model alone.
        """
        found = []
        for option in self.fields:
            if option.risk is Risk.NONE or not (value := options.get(option.name)):
                continue
            sources = self.code_sources if option.risk is Risk.MODEL_CODE else ()
            approved = (value, *(options.get(name) for name in sources))
            found.append(Privilege(option.name, approved, f"{option.risk}, so only an administrator may set this"))
        for name, value in options.get(EXTRA, {}).items():
            if value is not False:
                unknown = "only an administrator may set options that Corral doesn't know"
                found.append(Privilege(f"{EXTRA}.{name}", value, unknown))
        return found

    def build_command(self, launch: Launch) -> Command:
        """The engine itself or its container.

        The port always comes from `launch`; so does the host, unless the options name one. Later environments win:
        the engine's settings, its docker settings (in a container), the instance. Raises OptionError.
        """
        in_container = launch.docker_enabled and self.supports_docker
        environment = check_environment(
            {
                **launch.settings.environment,
                **(launch.settings.docker_environment if in_container else {}),
                **launch.environment,
            }
        )
        options = {**launch.backend_options, "port": launch.port}
        host = str(options.get("host") or launch.host)
        options, secrets = self.take_secrets(options, environment, launch.api_key)
        environment |= check_environment(secrets)
        if not in_container:
            arguments = self.arguments({**options, "host": host}, launch, in_container=False)
            program = launch.command_override or launch.settings.command
            return Command((program, *launch.settings.args, *arguments), environment)
        if not launch.settings.docker_image:
            raise OptionError("docker_enabled", f"no container image is configured for {self.label}; configure one")
        plan = plan_container(launch, host)
        arguments = self.arguments({**options, "host": plan.listen_host}, launch, in_container=True)
        return Command(
            tuple(docker_argv(plan, launch.settings.docker_image, environment, arguments)),
            environment,
            stop_argv=stop_container_argv(launch),
            cleanup_argv=remove_container_argv(launch),
        )

    def arguments(self, options: Mapping[str, Any], launch: Launch, *, in_container: bool) -> list[str]:
        """Hook: the engine's arguments, host and port among the options."""
        return self._writer.write(options)

    def take_secrets(
        self, options: dict[str, Any], environment: Mapping[str, str], api_key: str | None
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Hook: the options without what would show a secret in the list of processes, and the variables instead."""
        return options, {}


def check_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment if a process can be given it. Raises OptionError naming the variable."""
    for name, value in environment.items():
        if not _VARIABLE.fullmatch(name):
            raise OptionError("environment", f'"{name[:60]}" is not a name; use letters, digits and "_"')
        if "\0" in value:
            raise OptionError("environment", f"{name} contains a NUL character; remove it")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise OptionError("environment", f"{name} is not valid Unicode text; remove the broken character") from None
    return dict(environment)
