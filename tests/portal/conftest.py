"""A ``corral`` command per test, and one running installation for all tests that only look."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.portal.corral import Corral, CorralFactory


@pytest.fixture(scope="session")
def prepared_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with its database and static files, to be copied: making them anew costs each test 3 s."""
    corral = Corral(tmp_path_factory.mktemp("prepared"))
    result = corral.run("prepare")
    assert result.returncode == 0, result.stderr
    return corral.data_dir


@pytest.fixture
def make_corral(request: pytest.FixtureRequest, tmp_path: Path) -> CorralFactory:
    """Return a function that makes an installation with settings of its own, new or prepared."""

    def make(*, prepared: bool = False, **settings: str) -> Corral:
        folder = tmp_path / secrets.token_hex(4)
        folder.mkdir()
        corral = Corral(folder, **settings)
        if prepared:
            source = request.getfixturevalue("prepared_data")
            shutil.copytree(source / "static", corral.data_dir / "static", copy_function=os.link)
            shutil.copy(source / "corral.sqlite3", corral.data_dir)
        request.addfinalizer(corral.end)
        return corral

    return make


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corral]:
    """An installation that is up."""
    corral = Corral(tmp_path_factory.mktemp("running"))
    corral.up()
    yield corral
    corral.end()
