"""What people type before an engine's own arguments: environment, sudo, docker, python -m, the program's name."""

from __future__ import annotations

import re
from dataclasses import dataclass

from instances.backends.shellwords import Word

_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_PYTHON = re.compile(r"(?:python|pypy)[0-9.]*w?", re.IGNORECASE)
_PLAIN_WRAPPERS = frozenset({"nohup", "exec", "command", "setsid", "time", "export", "$", "#"})
# Options that take a word of their own; every other option of these programs stands alone.
_WRAPPER_VALUES = {
    "env": frozenset({"-u", "--unset", "-C", "--chdir"}),
    "sudo": frozenset({"-u", "-g", "-h", "-p", "-C", "-D", "-R", "-T", "-U", "--user", "--group", "--chdir"}),
    "nice": frozenset({"-n", "--adjustment"}),
    "ionice": frozenset({"-c", "-n"}),
    "uv": frozenset({"--python", "-p", "--with", "--project", "--directory"}),
}
# The one-letter switches (-it, -d, -P, -q) are known by their pattern.
_DOCKER_ALONE = frozenset(
    {
        *("--detach", "--interactive", "--tty", "--rm", "--init", "--privileged", "--read-only", "--publish-all"),
        *("--quiet", "--no-healthcheck", "--oom-kill-disable", "--sig-proxy", "--disable-content-trust"),
    }
)


@dataclass(frozen=True)
class CommandShape:
    """How an engine is called. `subcommands` follow a program or module, or may stand alone (`serve MODEL`)."""

    executables: tuple[str, ...]
    subcommands: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()


def strip_prefixes(words: list[Word], shape: CommandShape) -> tuple[list[Word], dict[str, str]]:
    """The engine's own arguments, and the environment set before them."""
    environment: dict[str, str] = {}
    rest = words
    while rest:
        shorter = _strip_one(rest, environment)
        if shorter is None:
            break
        rest = shorter
    return _strip_program(rest, shape), environment


def _strip_one(words: list[Word], environment: dict[str, str]) -> list[Word] | None:
    """`words` without one leading assignment or wrapper; None when there is none."""
    first = words[0].text
    if found := _ASSIGNMENT.fullmatch(first):
        environment[found[1]] = found[2]
        return words[1:]
    program = _base_name(first)
    if program in _PLAIN_WRAPPERS:
        return words[1:]
    if program in ("docker", "podman"):
        return _strip_docker(words, environment)
    if program in _WRAPPER_VALUES:
        rest = _skip_options(words[1:], _WRAPPER_VALUES[program])
        if program == "uv":
            return _skip_options(rest[1:], _WRAPPER_VALUES["uv"]) if rest and rest[0].text == "run" else None
        return rest
    return None


def _skip_options(words: list[Word], with_value: frozenset[str]) -> list[Word]:
    at = 0
    while at < len(words) and words[at].text.startswith("-"):
        at += 2 if words[at].text in with_value else 1
    return words[at:]


def _strip_docker(words: list[Word], environment: dict[str, str]) -> list[Word] | None:
    """What stands behind the image of `docker run`; `-e NAME=value` becomes environment."""
    run = next((at for at, word in enumerate(words[:4]) if word.text == "run"), None)
    if run is None:
        return None
    at = run + 1
    while at < len(words) and words[at].text.startswith("-"):
        name, sign, value = words[at].text.partition("=")
        alone = bool(sign) or name in _DOCKER_ALONE or re.fullmatch("-[itdPq]+", name) is not None
        if re.fullmatch("-[ep][^=].*", words[at].text) and not words[at].text.startswith("--"):
            # Short options may have the value attached: -eHF_TOKEN=x, -p8080:80
            name, value, alone = words[at].text[:2], words[at].text[2:], True
        if not alone and at + 1 < len(words):
            value = words[at + 1].text
        if name in ("-e", "--env") and (found := _ASSIGNMENT.fullmatch(value)):
            environment[found[1]] = found[2]
        at += 1 if alone else 2
    return words[at + 1 :]


def _strip_program(words: list[Word], shape: CommandShape) -> list[Word]:
    if words and _PYTHON.fullmatch(_base_name(words[0].text)):
        at = 1
        while at < len(words) and re.fullmatch("-[uBOsSEIq]+", words[at].text):
            at += 1
        flag, module = [*(word.text.lower() for word in words[at : at + 2]), "", ""][:2]
        if flag == "-m" and module in shape.modules:
            return _strip_subcommand(words[at + 2 :], shape)
    if words and _is_program(words[0].text, shape):
        return _strip_subcommand(words[1:], shape)
    return _strip_subcommand(words, shape)


def _is_program(text: str, shape: CommandShape) -> bool:
    """Whether a word is the engine's program; below a folder, names that merely end so count too (my-llama-server)."""
    base = _base_name(text)
    if "/" in text or "\\" in text:
        return any(base.endswith(name) for name in shape.executables)
    return base in shape.executables


def _strip_subcommand(words: list[Word], shape: CommandShape) -> list[Word]:
    return words[1:] if words and words[0].text.lower() in shape.subcommands else words


def _base_name(text: str) -> str:
    return re.split(r"[/\\]", text)[-1].lower().removesuffix(".exe")
