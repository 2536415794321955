"""Launches for tests, with every part given a plain default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instances.backends.base import BackendSettings, Command, Launch
from instances.backends.registry import get_backend

PROGRAMS = {
    "llama_cpp": BackendSettings(command="llama-server"),
    "vllm": BackendSettings(command="vllm", args=("serve",)),
    "mlx_lm": BackendSettings(command="mlx_lm.server"),
    "command": BackendSettings(command=""),
}


def build(engine: str, raw: Mapping[str, Any], **parts: Any) -> Command:
    """The command of an instance with these options, normalised first."""
    backend = get_backend(engine)
    given: dict[str, Any] = {"host": "127.0.0.1", "port": 8001, "settings": PROGRAMS[engine], **parts}
    return backend.build_command(
        Launch(instance_name="demo", backend_options=backend.normalize_options(raw).options, **given)
    )


ADDRESS = ("--host", "127.0.0.1", "--port", "8001")
