from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.instances.shim.harness import ShimRun


@pytest.fixture
def run(tmp_path: Path) -> Iterator[ShimRun]:
    """A run folder; whatever was started in it is gone after the test."""
    shim_run = ShimRun(tmp_path, uuid.uuid4().hex)
    yield shim_run
    shim_run.kill_everything()
