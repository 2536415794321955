"""The engines the portal knows. To add one: a folder with its options and its Backend, and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from instances.backends.base import Backend
from instances.backends.command.backend import CommandBackend
from instances.backends.llama_cpp.backend import LlamaCppBackend
from instances.backends.mlx_lm.backend import MlxLmBackend
from instances.backends.vllm.backend import VllmBackend

BACKENDS: Mapping[str, Backend] = MappingProxyType(
    {backend.type: backend for backend in (LlamaCppBackend(), MlxLmBackend(), VllmBackend(), CommandBackend())}
)
"""Every engine by its `type`, in the order in which a form offers them."""

LEGACY_OPTION_KEYS: Mapping[str, str] = MappingProxyType(
    {"llama_server_options": "llama_cpp", "mlx_server_options": "mlx_lm", "vllm_server_options": "vllm"}
)
"""llamactl's older names for `backend_options`, one per engine, still accepted and still answered by parse-command."""


def get_backend(name: str) -> Backend:
    """The engine by its `type` or by its name in URLs and settings (`llama-cpp`). Raises KeyError."""
    if name in BACKENDS:
        return BACKENDS[name]
    for backend in BACKENDS.values():
        if backend.config_key == name:
            return backend
    raise KeyError(f'there is no engine "{name}"; choose one of {", ".join(BACKENDS)}')
