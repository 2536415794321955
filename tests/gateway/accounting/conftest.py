from __future__ import annotations

from tests.engines.fixtures import llama_server, mlx_server, tiny_gguf, tiny_hf

__all__ = ["llama_server", "mlx_server", "tiny_gguf", "tiny_hf"]
