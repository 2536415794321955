"""The Makefile on a machine that lacks something, and the lock files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.system.stack import ROOT

pytestmark = pytest.mark.any_database
NAMES = ("python3.14", "python3.13", "python3.12", "python3.11", "python3", "python")
PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", re.MULTILINE)


def make_with_pythons(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run ``make install`` where every Python on the PATH is this shell script."""
    shutil.copy(ROOT / "Makefile", folder)
    binaries = folder / "bin"
    binaries.mkdir()
    for name in NAMES:
        (binaries / name).write_text(f"#!/bin/sh\n{script}\n")
        (binaries / name).chmod(0o755)
    return subprocess.run(
        ["make", "install"],
        cwd=folder,
        env={"PATH": f"{binaries}{os.pathsep}/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_old_python_is_refused_with_a_sentence(tmp_path: Path) -> None:
    result = make_with_pythons(tmp_path, "exit 1")
    assert result.returncode != 0
    assert "Corral needs Python 3.11 or newer" in result.stderr
    assert not (tmp_path / ".venv").exists()


def test_a_missing_venv_module_is_named_with_its_package(tmp_path: Path) -> None:
    result = make_with_pythons(tmp_path, 'case "$2" in *version_info*) exit 0;; esac; exit 1')
    assert result.returncode != 0
    assert "python3-venv" in result.stderr


def test_the_tests_run_with_the_versions_that_users_get() -> None:
    locked = dict(PIN.findall((ROOT / "requirements.lock").read_text()))
    tested = dict(PIN.findall((ROOT / "requirements-test.lock").read_text()))
    assert locked
    assert {name: tested.get(name) for name in locked} == locked


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-test.lock"])
def test_a_lock_file_has_a_hash_for_each_version_and_no_address(name: str) -> None:
    text = (ROOT / name).read_text()
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in text
    assert "--index" not in text
    assert "--find-links" not in text


def test_every_requirement_of_the_project_is_locked() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    names = {re.split(r"[^A-Za-z0-9._-]", line)[0].lower() for line in wanted}
    assert names <= set(dict(PIN.findall((ROOT / "requirements.lock").read_text())))
