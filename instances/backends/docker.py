"""Run an engine's arguments inside a container by the docker command line."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Sequence
from dataclasses import dataclass

from instances.backends.base import Launch, OptionError

# A detached container would leave its supervisor without a process, and there is no terminal to allocate.
_UNUSABLE = frozenset({"-d", "--detach", "--detach=true", "-t", "--tty", "--tty=true", "-it", "-ti", "-i"})
_NETWORK_FLAGS = ("--network", "--net")


@dataclass(frozen=True)
class ContainerPlan:
    """How a container is reached. `listen_host` is where the engine listens inside it."""

    run_arguments: tuple[str, ...]
    listen_host: str


def plan_container(launch: Launch, published_host: str) -> ContainerPlan:
    """The arguments of `docker` before the image, without environment.

    With the network of the host the port is the host's own; otherwise it is published under the same number at
    `published_host`, which must then be an IP address. Raises OptionError.
    """
    given = list(launch.settings.docker_args)
    arguments = [argument for argument in given if argument not in _UNUSABLE]
    if "run" not in arguments:
        arguments = ["run", *arguments]
    arguments += ["--name", launch.container_name]
    if launch.preset_path is not None:
        arguments += ["-v", f"{launch.preset_path}:{launch.preset_path}:ro"]
    if _network(given) == "host":
        return ContainerPlan(tuple(arguments), published_host)
    arguments += ["-p", f"{_bindable(published_host)}:{launch.port}:{launch.port}"]
    return ContainerPlan(tuple(arguments), str(ipaddress.IPv4Address(0)))


def _network(arguments: Sequence[str]) -> str:
    """The network named last by `--network X` or `--network=X`; empty when none is named."""
    network = ""
    for position, argument in enumerate(arguments):
        flag, sign, value = argument.partition("=")
        if flag in _NETWORK_FLAGS:
            network = value if sign else "".join(arguments[position + 1 : position + 2])
    return network


def _bindable(host: str) -> str:
    if host == "localhost":
        return "127.0.0.1"
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        raise OptionError(
            "host", f'"{host}" is not an IP address; a container\'s port can only be published at one, e.g. 127.0.0.1'
        ) from None
    return f"[{address}]" if address.version == 6 else str(address)


def docker_argv(plan: ContainerPlan, image: str, environment: dict[str, str], arguments: Sequence[str]) -> list[str]:
    """`docker run ... -e NAME ... IMAGE ARGUMENTS`.

    Values of variables come from the environment of the docker client, where other users of the host can't read them.
    """
    names = [part for name in environment for part in ("-e", name)]
    return ["docker", *plan.run_arguments, *names, image, *arguments]


def stop_container_argv(launch: Launch) -> tuple[str, ...]:
    """Ask the engine in the container to end, and kill it after the grace."""
    return ("docker", "stop", "-t", str(max(1, math.ceil(launch.stop_grace_s))), launch.container_name)


def remove_container_argv(launch: Launch) -> tuple[str, ...]:
    """Remove the container, running or not."""
    return ("docker", "rm", "-f", launch.container_name)
