"""The files of the front end: nothing inline, nothing from elsewhere, vendored files as they were published."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from django.core.files import File
from whitenoise.storage import CompressedManifestStaticFilesStorage

ROOT = Path(__file__).resolve().parent.parent.parent
VENDOR = ROOT / "static" / "vendor"
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
OURS = sorted([*(ROOT / "static" / "js").glob("*.js"), *(ROOT / "static" / "css").glob("*.css")])

pytestmark = pytest.mark.any_database


def test_vendored_files_are_those_of_the_table() -> None:
    table = (VENDOR / "VENDORED.md").read_text()
    listed = dict(re.findall(r"\| `([\w.-]+/[\w.-]+)` \([^)]*\) \| `([0-9a-f]{64})`", table))
    present = {path for path in VENDOR.rglob("*") if path.suffix in (".js", ".css")}
    assert {str(path.relative_to(VENDOR)) for path in present} == set(listed)
    for name, digest in listed.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name
        assert (VENDOR / name).with_name("LICENSE").is_file()


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_have_nothing_inline_and_nothing_from_elsewhere(path: Path) -> None:
    """The content security policy allows scripts and styles of our own files only."""
    text = path.read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)", text)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|\shx-on|javascript:", text)
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", text)


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_our_scripts_and_styles_load_nothing_from_elsewhere(path: Path) -> None:
    assert not re.search(r"(?:https?:)?//[a-z0-9-]+\.[a-z]", path.read_text())
    assert len(path.read_text().splitlines()) < 500


def test_every_file_can_be_collected_under_a_name_with_its_digest(tmp_path: Path) -> None:
    """A style sheet that names a missing file, such as a source map, would stop the start."""
    storage = CompressedManifestStaticFilesStorage(location=tmp_path, base_url="/static/")
    sources = {}
    for path in (ROOT / "static").rglob("*"):
        if path.is_file():
            name = str(path.relative_to(ROOT / "static"))
            with path.open("rb") as file:
                storage.save(name, File(file))
            sources[name] = (storage, name)
    for name, hashed, processed in storage.post_process(sources):
        assert not isinstance(processed, Exception), (name, hashed, processed)
