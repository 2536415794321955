"""A server of the user's own: a command line with macros instead of a catalogue of flags."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from instances.backends.base import (
    Backend,
    Command,
    Launch,
    NormalizedOptions,
    OptionError,
    OptionField,
    OptionKind,
    ParsedCommand,
    ParseError,
    Readiness,
)
from instances.backends.command.macros import (
    START_MACROS,
    STOP_MACROS,
    check_macros,
    fill_macros,
)
from instances.backends.engine import check_environment
from instances.backends.fields import FieldIndex
from instances.backends.files import possible_paths
from instances.backends.normalize import normalize
from instances.backends.shellwords import split_words, without_shell_syntax
from instances.backends.values import check_text

_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252})", re.ASCII)
_NO_HEALTH = "none"

FIELDS = (
    OptionField("command", OptionKind.STR, aliases=("cmd",), group="command", basic=True),
    OptionField("stop_command", OptionKind.STR, aliases=("cmd_stop",), group="command"),
    OptionField("health_path", OptionKind.STR, aliases=("check_endpoint",), group="readiness", basic=True),
    OptionField("health_timeout", OptionKind.FLOAT, group="readiness"),
    OptionField("served_model_name", OptionKind.STR, aliases=("use_model_name",), group="routing"),
    OptionField("proxy", OptionKind.STR, group="routing"),
    OptionField("port", OptionKind.INT, group="routing"),
)


class CommandBackend(Backend):
    """Any HTTP server. Whoever sets its options runs a program of their choice, hence for administrators only.

    `command` and `stop_command` are a text, split as a shell would and never given to one, or a list of arguments.
    They may hold `${PORT}`, `${HOST}` and `${MODEL_ID}` (the instance's name), and `stop_command` `${PID}` as well.
    """

    type = "command"
    config_key = "command"
    label = "Custom command"
    fields = FIELDS
    administrators_only = True

    def __init__(self) -> None:
        self._index = FieldIndex(FIELDS)

    def normalize_options(self, raw: object) -> NormalizedOptions:
        """Check and decode the options; those that mean nothing to a custom command are errors. Raises OptionError."""
        given = dict(raw) if isinstance(raw, Mapping) else raw
        no_health = False
        commands: dict[str, list[str]] = {}
        if isinstance(given, dict):
            for key in [key for key in given if isinstance(key, str)]:
                option = self._index.find(key)
                if option is None:
                    raise OptionError(key[:60] or "(empty)", f"is not an option of a custom command; use {_names()}")
                if option.name == "health_path" and given[key] is None:
                    no_health = True
                elif option.name in ("command", "stop_command") and isinstance(given[key], list):
                    commands[option.name] = _checked_list(option.name, given.pop(key))
        normalized = normalize(self._index, given)
        options = {**normalized.options, **commands}
        if no_health:
            options["health_path"] = _NO_HEALTH
        self._check(options)
        ordered = {option.name: options[option.name] for option in FIELDS if option.name in options}
        return NormalizedOptions(ordered, normalized.warnings)

    def _check(self, options: Mapping[str, Any]) -> None:
        if not _words("command", options.get("command", "")):
            raise OptionError("command", "is missing; write the command that starts the server")
        used = check_macros("command", " ".join(_words("command", options["command"])), START_MACROS)
        if "PORT" not in used and not options.get("port"):
            raise OptionError("command", "doesn't use ${PORT}; put it where the port belongs, or set a fixed port")
        check_macros("stop_command", " ".join(_words("stop_command", options.get("stop_command", ""))), STOP_MACROS)
        path = options.get("health_path", "/health")
        if path != _NO_HEALTH and (not path.startswith("/") or re.search(r"\s", path)):
            raise OptionError("health_path", f'must begin with "/" and have no blanks, or be "{_NO_HEALTH}"')
        if options.get("health_timeout", 1) <= 0:
            raise OptionError("health_timeout", "must be more than 0 seconds")
        _proxy_host(options.get("proxy", ""))

    def build_command(self, launch: Launch) -> Command:
        """The command with its macros filled; `${PID}` stays in `stop_argv` for whoever runs it."""
        environment = check_environment({**launch.settings.environment, **launch.environment})
        macros = {"PORT": str(launch.port), "HOST": launch.host, "MODEL_ID": launch.instance_name}
        argv = [fill_macros(word, macros) for word in _words("command", launch.backend_options["command"])]
        stop = [
            fill_macros(word, macros) for word in _words("stop_command", launch.backend_options.get("stop_command", ""))
        ]
        return Command(tuple(argv), environment, stop_argv=tuple(stop) or None)

    def parse_command(self, text: str) -> ParsedCommand:
        """The whole text is the command. Raises ParseError."""
        split_words(text)
        return ParsedCommand({"command": text.strip()})

    def readiness(self, options: Mapping[str, Any]) -> Readiness:
        """GET `health_path` answers 200; with "none", the port accepting a connection is enough."""
        path = options.get("health_path", "/health")
        return Readiness(None if path == _NO_HEALTH else path, timeout_s=options.get("health_timeout"))

    def upstream_host(self, options: Mapping[str, Any]) -> str:
        """The host of `proxy`, else this machine."""
        return _proxy_host(options.get("proxy", "")) or "127.0.0.1"

    def served_model(self, options: Mapping[str, Any]) -> str | None:
        """`served_model_name`; without it the client's own model name is passed on."""
        return options.get("served_model_name")

    def files_named_by(self, options: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Every word of both commands that may be a path, the programs among them."""
        return [
            (name, path)
            for name in ("command", "stop_command")
            for word in _words(name, options.get(name, ""))
            for path in possible_paths(word)
        ]


def _names() -> str:
    return ", ".join(option.name for option in FIELDS)


def _checked_list(name: str, value: list[object]) -> list[str]:
    if not all(isinstance(word, str) for word in value):
        raise OptionError(name, "must be a list of texts, one for each argument")
    return [check_text(name, str(word)) for word in value]


def _words(name: str, command: str | list[str]) -> list[str]:
    if isinstance(command, list):
        return command
    if not command.strip():
        return []
    try:
        words = split_words(command)
    except ParseError as error:
        raise OptionError(name, f"{error.message}; close every quote, or write a list of arguments") from error
    if len(without_shell_syntax(words)) != len(words):
        raise OptionError(name, "has a pipe, a redirection or a second command, but no shell runs it; use sh -c '...'")
    return [word.text for word in words]


def _proxy_host(proxy: str) -> str:
    """The host in `proxy`, a host or an address such as http://10.0.0.5:${PORT}. The port is always the instance's."""
    if not proxy:
        return ""
    text = fill_macros(proxy, {"PORT": "1"})
    check_macros("proxy", text, frozenset())
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    is_plain = port in (None, 1) and parts.scheme == "http" and parts.path in ("", "/") if host else False
    if not is_plain or not (_HOST_NAME.fullmatch(host) or _is_address(host)):
        raise OptionError("proxy", "must be a host such as 127.0.0.1, or http://HOST:${PORT}")
    return host


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
