from __future__ import annotations

from tests.fakes.fixtures import fake_docker, fake_engine_program

__all__ = ["fake_docker", "fake_engine_program"]
