"""Fixtures of the real engines and their models; a conftest imports what it needs from here.

An engine that is not there fails the test with the command that makes it: nothing is skipped, and nothing is compiled
inside a test's time limit.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines.cache import EngineError
from tests.engines.llama_page import find_llama_page
from tests.engines.llama_server import find_llama_server
from tests.engines.mlx_server import find_mlx_server
from tests.engines.models import provide_tiny_gguf, provide_tiny_hf


@pytest.fixture(scope="session")
def llama_server() -> Path:
    """The program ``llama-server``."""
    try:
        return find_llama_server()
    except EngineError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def llama_page() -> Path:
    """The folder with the web page of ``llama-server``."""
    try:
        return find_llama_page()
    except EngineError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def mlx_server() -> Path:
    """The program ``mlx_lm.server``."""
    try:
        return find_mlx_server()
    except EngineError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def tiny_gguf() -> Path:
    """A model file for llama-server."""
    return provide_tiny_gguf()


@pytest.fixture(scope="session")
def tiny_hf() -> Path:
    """A model folder for mlx_lm.server and vLLM."""
    return provide_tiny_hf()
