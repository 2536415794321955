"""A ``corral`` command per test, and one running installation for all tests that only look."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.portal.corral import Corral, CorralFactory


@pytest.fixture
def make_corral(request: pytest.FixtureRequest, tmp_path: Path) -> CorralFactory:
    """Return a function that makes an installation with settings of its own."""

    def make(**settings: str) -> Corral:
        folder = tmp_path / secrets.token_hex(4)
        folder.mkdir()
        corral = Corral(folder, **settings)
        request.addfinalizer(corral.end)
        return corral

    return make


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corral]:
    """An installation that is up."""
    corral = Corral(tmp_path_factory.mktemp("running"))
    corral.up()
    yield corral
    corral.end()
