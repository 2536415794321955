#!/usr/bin/env python3
"""A docker command for tests: ``--version``, ``run``, ``stop``, ``kill``, ``rm``. Every image is the fake engine.

As with the real one, containers belong to a daemon (`docker_daemon.py`), not to the client: killing the client of
``run`` leaves the container running. ``FAKE_DOCKER_DIR`` names the folder with the daemon's socket. Messages and exit
codes are docker's: 125 for its own errors, 127 for a missing image's program, else the container's own.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys

VALUE_FLAGS = {
    "--name", "-e", "--env", "-p", "--publish", "-v", "--volume", "--mount", "--network", "--net", "--gpus",
    "--shm-size", "--ipc", "--device", "--user", "-u", "--workdir", "-w", "--label", "-l", "--memory", "-m", "--cpus",
    "--ulimit", "--pull", "--runtime", "--entrypoint", "--stop-signal", "--stop-timeout",
}  # fmt: skip
BARE_FLAGS = {"--rm", "--init", "--privileged", "-i", "--interactive", "-t", "--tty", "-it"}


def fail(message: str, code: int = 1) -> None:
    """Say what is wrong as docker does, and leave."""
    print(message, file=sys.stderr)
    sys.exit(code)


def ask_daemon(request: dict[str, object], descriptors: list[int]) -> socket.socket:
    """Send a request to the daemon; the connection on which it answers."""
    folder = os.environ.get("FAKE_DOCKER_DIR", "")
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(f"{folder}/docker.sock")
    except OSError:
        fail(f"Cannot connect to the Docker daemon at unix://{folder}/docker.sock. Is the docker daemon running?")
    socket.send_fds(connection, [json.dumps(request).encode() + b"\n"], descriptors)
    return connection


def read_answer(connection: socket.socket) -> dict[str, object]:
    """The daemon's answer, a line of JSON."""
    with connection.makefile("rb") as file:
        answer: dict[str, object] = json.loads(file.readline())
    return answer


def parse_run(arguments: list[str]) -> dict[str, object]:
    """The request for ``docker run [FLAGS] IMAGE [ARGUMENTS]``."""
    request: dict[str, object] = {"command": "run", "name": "", "remove": False}
    environment: dict[str, str] = {}
    ports: list[str] = []
    flags: list[str] = []
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        flag, has_value, value = rest.pop(0).partition("=")
        if flag in VALUE_FLAGS and not has_value:
            if not rest:
                fail(f"flag needs an argument: {flag}", 125)
            value = rest.pop(0)
        elif flag not in VALUE_FLAGS | BARE_FLAGS:
            fail(f"unknown flag: {flag}\n\nUsage:  docker run [OPTIONS] IMAGE [COMMAND] [ARG...]", 125)
        flags.append(f"{flag}={value}" if flag in VALUE_FLAGS else flag)
        if flag == "--name":
            request["name"] = value
        elif flag == "--rm":
            request["remove"] = True
        elif flag in ("-p", "--publish"):
            ports.append(value)
        elif flag in ("-e", "--env"):
            name, is_given, text = value.partition("=")
            if is_given or name in os.environ:
                environment[name] = text if is_given else os.environ[name]
    if not rest:
        fail("docker: 'docker run' requires at least 1 argument", 125)
    return {
        **request,
        "image": rest[0],
        "arguments": rest[1:],
        "environment": environment,
        "ports": ports,
        "flags": flags,
    }


def run(arguments: list[str]) -> int:
    """Run a container in the foreground; signals go to it, its exit code comes back."""
    request = parse_run(arguments)
    connection = ask_daemon(request, [1, 2])
    started = read_answer(connection)
    if "error" in started:
        print(f"docker: {started['error']}", file=sys.stderr)
        return 125

    def forward(number: int, frame: object) -> None:
        ask_daemon({"command": "kill", "name": started["name"], "signal": number}, [])

    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGINT, forward)
    code = read_answer(connection)["exit_code"]
    assert isinstance(code, int)
    return code


def manage(command: str, arguments: list[str]) -> int:
    """``stop [-t S]``, ``kill [-s SIGNAL]`` and ``rm [-f]`` of containers by name."""
    request: dict[str, object] = {"command": command}
    names = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        flag, has_value, value = argument.partition("=")
        if flag in ("-f", "--force"):
            request["force"] = True
        elif flag in ("-t", "--time", "--timeout"):
            request["timeout"] = float(value if has_value else rest.pop(0))
        elif flag in ("-s", "--signal"):
            name = value if has_value else rest.pop(0)
            request["signal"] = int(name) if name.isdigit() else int(signal.Signals[f"SIG{name.removeprefix('SIG')}"])
        elif flag.startswith("-"):
            fail(f"unknown flag: {flag}", 125)
        else:
            names.append(argument)
    if not names:
        fail(f'"docker {command}" requires at least 1 argument.')
    code = 0
    for name in names:
        answer = read_answer(ask_daemon({**request, "name": name}, []))
        if "error" in answer:
            print(answer["error"], file=sys.stderr)
            code = 0 if command == "rm" and "force" in request else 1  # what is gone already is as wanted
        else:
            print(name)
    return code


def main(arguments: list[str]) -> int:
    """The exit status of a docker command."""
    if arguments[:1] in (["--version"], ["-v"]):
        print("Docker version 29.0.0, build fake")
        return 0
    if arguments[:1] == ["run"]:
        return run(arguments[1:])
    if arguments[:1] in (["stop"], ["kill"], ["rm"]):
        return manage(arguments[0], arguments[1:])
    print(f"docker: '{' '.join(arguments[:1])}' is not a docker command.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
