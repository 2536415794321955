"""The contract every inference engine fulfils: describe its options, build its command line, say when it is ready.

Nothing here knows Django or one particular engine. The supervisor, the API and the gateway speak to engines through
`Backend` alone; the engines live in one folder each beside this module and are found through `registry.get_backend`.
"""

from __future__ import annotations

import ipaddress
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any


class OptionError(ValueError):
    """An option has an unusable value.

    `field` is the option's name as the user may find it in the form; `message` is a sentence saying what is wrong
    with it and what to write instead. The text of the exception joins both.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class ParseError(ValueError):
    """A pasted command line cannot be read. `code` is llamactl's: `invalid_command` (empty) or `parse_error`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class OptionKind(StrEnum):
    """What JSON type an option has."""

    BOOL = "bool"
    INT = "int"
    FLOAT = "float"
    STR = "str"
    LIST = "list"
    MAP = "map"


class ListForm(StrEnum):
    """How an engine takes several values of one option."""

    REPEATED = "repeated"
    """`--flag a --flag b`"""
    WORDS = "words"
    """`--flag a b` (argparse's `nargs="+"`, where a second `--flag` would replace the first)"""
    JSON = "json"
    """`--flag '["a", "b"]'`"""


class NamesFile(StrEnum):
    """Whether an option's text names something in the file system of the host."""

    NO = "no"
    YES = "yes"
    """The text is a path."""
    MANY = "many"
    """Paths divided by commas, each perhaps with `:scale` or `=scale` behind it."""
    MAYBE = "maybe"
    """A path, or something else such as a repository id or JSON."""
    TEMPLATE = "template"
    """A path, or the text of a Jinja template."""


class Risk(StrEnum):
    """Why an option is an administrator's to set; the text completes "... may set this, because"."""

    NONE = ""
    CODE = "it can run code on the host"
    MODEL_CODE = "it runs the code that comes with the model"
    FILES = "it makes the engine write files or hand them out"
    NETWORK = "it changes where the engine listens, what it serves there or whom it lets in"
    FETCH = "it makes the engine talk to any address"


@dataclass(frozen=True)
class OptionField:
    """One option of an engine: its name in JSON (`ctx_size`), its other names, its type and how it is written.

    `flag` is the engine's spelling where it is not simply the name with dashes. `negative` is the flag that says
    "no" to a boolean, `""` when the engine has none. `pair` marks a flag followed by two values, `switch` a text
    option with the values on/off, so that true, false and the bare flag are understood. `words` are words an integer
    option takes in place of a number, with the number that means the same; `suffixes` allows 32k and 32K. `risk`
    says why only an administrator may set it.
    """

    name: str
    kind: OptionKind
    aliases: tuple[str, ...] = ()
    repeated: bool = False
    flag: str = ""
    negative: str = ""
    group: str = ""
    basic: bool = False
    list_form: ListForm = ListForm.REPEATED
    names_file: NamesFile = NamesFile.NO
    pair: bool = False
    switch: bool = False
    suffixes: bool = False
    words: tuple[tuple[str, int], ...] = ()
    risk: Risk = Risk.NONE

    @property
    def long_flag(self) -> str:
        """The flag as the engine wants it: `--ctx-size`."""
        return self.flag or "--" + self.name.replace("_", "-")


@dataclass(frozen=True)
class Privilege:
    """A setting that an administrator must have made.

    `option` is its name, `message` the sentence that refuses it to others. `approved` is what an administrator agreed
    to: whoever sends the same again needs no second approval, whoever sends something else does.
    """

    option: str
    approved: object
    message: str


@dataclass(frozen=True)
class BackendSettings:
    """What the administrator configured for one engine on this node."""

    command: str
    args: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    docker_enabled: bool = False
    docker_image: str = ""
    docker_args: tuple[str, ...] = ()
    docker_environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Launch:
    """Everything a command line is made of: one instance's normalised options and what this run was given.

    `host` and `port` are where the engine shall listen. `api_key` is the run's own key (None: no key wanted).
    `command_override` is the path of an executable, empty for the configured one, ignored with Docker. `preset_path`
    is a file of model presets on this host. `stop_grace_s` is how long `docker stop` waits before it kills.
    """

    instance_name: str
    backend_options: Mapping[str, Any]
    host: str
    port: int
    settings: BackendSettings
    api_key: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    command_override: str = ""
    docker_enabled: bool = False
    container_name: str = ""
    preset_path: Path | None = None
    stop_grace_s: float = 10.0


@dataclass(frozen=True)
class Command:
    """A process to start. `environment` holds additions to the node's own environment, secrets among them.

    `stop_argv` is a program that asks the process to end (None: a signal does). The text `${PID}` in it stands for
    the process id, which is known only after the start. `cleanup_argv` removes what a dead process left behind; it
    may also be run before a start.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    stop_argv: tuple[str, ...] | None = None
    cleanup_argv: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Readiness:
    """How to learn that an engine serves: GET `path` answers one of `accepted_status` within `timeout_s`.

    `path` None: the port accepting a connection is enough. `timeout_s` None: the portal's own start timeout counts.
    """

    path: str | None
    accepted_status: frozenset[int] = frozenset({200})
    timeout_s: float | None = None


@dataclass(frozen=True)
class NormalizedOptions:
    """Options in canonical names and types, and sentences about what was changed or ignored on the way."""

    options: dict[str, Any]
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ParsedCommand:
    """What a pasted command line says: options (normalised) and the environment variables set in front of it."""

    options: dict[str, Any]
    environment: dict[str, str] = field(default_factory=dict)


class Backend(ABC):
    """One inference engine. Instances carry no state; every method may be called from any thread."""

    type: str
    """The name in the API: `llama_cpp`."""
    config_key: str
    """The name in settings and URLs: `llama-cpp`."""
    label: str
    """The name people read."""
    fields: tuple[OptionField, ...]
    """The catalogue, in the order in which arguments are written."""
    supports_docker: bool = False
    zero_is_a_crash: bool = False
    """True when the engine, which never ends of its own accord, ends with exit code 0 after a crash as well."""
    serving_command: tuple[str, str] | None = None
    """The program and the subcommand that serves (`vllm serve`), when that has no `--version` of its own."""
    administrators_only: bool = False
    """True when whoever may set its options may run any program on the host."""

    @abstractmethod
    def normalize_options(self, raw: object) -> NormalizedOptions:
        """Decode `backend_options` as a client sent them. Raises OptionError. Normalising twice changes nothing."""

    @abstractmethod
    def build_command(self, launch: Launch) -> Command:
        """The process to start for normalised options. Raises OptionError for options that can't be launched."""

    @abstractmethod
    def parse_command(self, text: str) -> ParsedCommand:
        """Read a command line a user pasted. Nothing is run, no shell is involved. Raises ParseError."""

    @abstractmethod
    def readiness(self, options: Mapping[str, Any]) -> Readiness:
        """How to learn that an instance with these normalised options serves."""

    @abstractmethod
    def served_model(self, options: Mapping[str, Any]) -> str | None:
        """The model name the engine itself expects in a request body; None = leave the client's."""

    @abstractmethod
    def files_named_by(self, options: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Each local file or folder the options name, as (option, path text), to be checked against allowed roots.

        Errs on the side of reporting: a text that may be a path is one. Paths are as written, relative ones too.
        """

    def privileges_in(self, options: Mapping[str, Any]) -> list[Privilege]:
        """Each of these normalised options that only an administrator may set so; none where all are theirs."""
        return []

    def upstream_host(self, options: Mapping[str, Any]) -> str:
        """The host to connect to. An engine listening on every address is reached at 127.0.0.1."""
        host = str(options.get("host") or "").strip("[]")
        try:
            is_everywhere = ipaddress.ip_address(host).is_unspecified
        except ValueError:
            is_everywhere = not host
        return "127.0.0.1" if is_everywhere else host

    def upstream_prefix(self, options: Mapping[str, Any]) -> str:
        """A path the engine puts before all its routes, such as `/llm`; usually empty."""
        return ""

    def describe_fields(self) -> list[dict[str, Any]]:
        """The catalogue for a form, ready for JSON: name, kind, aliases, repeated, group, basic, flag."""
        return [
            {
                "name": option.name,
                "kind": option.kind.value,
                "aliases": list(option.aliases),
                "repeated": option.repeated,
                "group": option.group,
                "basic": option.basic,
                "flag": option.long_flag,
            }
            for option in self.fields
        ]
