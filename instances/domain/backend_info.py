"""Asking an engine's program about itself: its help, its version, the devices it sees."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Literal, TypedDict

from instances.backends.base import Backend
from instances.backends.registry import get_backend
from instances.domain.definitions import find_node
from instances.domain.launch import inherited_environment, read_backend_settings
from instances.domain.node_tasks import DESCRIBE_BACKEND, ask_node
from instances.errors import InstanceError

Topic = Literal["help", "version", "devices"]
FLAGS: dict[Topic, str] = {"help": "--help", "version": "--version", "devices": "--list-devices"}
FAILURES: dict[Topic, str] = {
    "help": "Failed to get help: ",
    "version": "Failed to get version: ",
    "devices": "Failed to list devices: ",
}
COMMAND_S = 25.0
"""How long the program may take in all; the request waits a little longer (``ANSWER_S``)."""
ANSWER_S = 30.0
OUTPUT_BYTES = 2**20


class Description(TypedDict):
    """What came of it: the program's output, or why there is none in ``error``."""

    output: str
    error: str


class CommandFailed(InstanceError):
    """The program is missing, failed, or took too long. The code has a space, as llamactl's has."""

    status = 500
    code = "command failed"


def fetch_description(backend_type: str, topic: Topic) -> str:
    """Return what the engine's program says, run on this installation's own node by its worker.

    Raises CommandFailed with llamactl's sentence, or NodeUnavailable when the worker does not answer.
    """
    node = find_node("")
    answer: Description = ask_node(node, DESCRIBE_BACKEND, timeout_s=ANSWER_S, backend_type=backend_type, topic=topic)
    if answer["error"]:
        raise CommandFailed(FAILURES[topic] + answer["error"])
    return answer["output"]


def describe_backend(backend_type: str, topic: Topic) -> Description:
    """Run the configured program of an engine here and return its merged output. The body of the task.

    The configured arguments come first; a failure with them is followed by a try without, as long as there is time. The
    first failure is the one that is told.
    """
    backend = get_backend(backend_type)
    environment = {**inherited_environment(os.environ), **read_backend_settings(backend).environment}
    first: Description | None = None
    deadline = time.monotonic() + COMMAND_S
    for argv in command_lines(backend, topic):
        if first is not None and time.monotonic() >= deadline:
            break
        answer = run_command(argv, environment, deadline - time.monotonic())
        if not answer["error"]:
            return answer
        first = first or answer
    return first or {"output": "", "error": f"no command is configured for {backend.label}"}


def command_lines(backend: Backend, topic: Topic) -> Iterator[list[str]]:
    """Yield the command lines to try, best first.

    An engine's subcommand that has no version is left out at once: to be told so by vLLM takes as long as an answer.
    """
    configured = read_backend_settings(backend)
    program, subcommand = (topic == "version" and backend.serving_command) or ("", "")
    if backend.supports_docker and configured.docker_enabled:
        entry = ["--entrypoint", program] if program else []
        yield ["docker", *configured.docker_args, *entry, configured.docker_image, FLAGS[topic]]
    elif configured.command:
        args = list(configured.args)
        if args[-1:] == [subcommand]:
            args.pop()
        yield [configured.command, *args, FLAGS[topic]]
        if args:
            yield [configured.command, FLAGS[topic]]


def run_command(argv: list[str], environment: Mapping[str, str], timeout_s: float) -> Description:
    """Run a program with stdout and stderr merged, as llama-server prints its version on stderr; never raises.

    Its whole process group ends with it. Output goes through a file, so that a child that keeps it open can't hold us.
    """
    if shutil.which(argv[0], path=environment.get("PATH")) is None:
        return {"output": "", "error": f'exec: "{argv[0]}": executable file not found in $PATH'}
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
            )
        except OSError as error:
            return {"output": "", "error": f"{argv[0]}: {(error.strerror or str(error)).lower()}"}
        try:
            code: int | None = process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            code = None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        output.seek(0)
        text = output.read(OUTPUT_BYTES).decode(errors="replace").replace("\0", "")
    if code == 0:
        return {"output": text, "error": ""}
    ending = f"no answer within {timeout_s:.0f} s" if code is None else f"exit status {code}"
    last = text.strip().splitlines()[-1:]
    return {"output": "", "error": f"{ending}: {last[0][:500]}" if last else ending}
