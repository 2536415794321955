"""A folder of models, and the real llama-server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.engines.fixtures import llama_server

__all__ = ["llama_server"]


@pytest.fixture
def models_folder(tmp_path: Path, change_settings: Any) -> Path:
    """A folder of models with a link that leads out of it."""
    folder = tmp_path / "models"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (folder / "link.gguf").symlink_to(tmp_path / "secret")
    change_settings(models_dirs=[folder])
    return folder
