"""Finding model files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gallery.domain import files
from gallery.domain.files import ModelForm, list_model_files

pytestmark = pytest.mark.any_database


def write(path: Path, size: int = 4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    return path


def test_gguf_files_and_folders_of_weights_are_found_by_name(tmp_path: Path) -> None:
    write(tmp_path / "b.gguf", 10)
    write(tmp_path / "sub" / "A.GGUF")
    write(tmp_path / "notes.txt")
    write(tmp_path / "hf" / "config.json", 1)
    write(tmp_path / "hf" / "model.safetensors", 2)
    write(tmp_path / "half" / "config.json")
    found = [(model.name, model.form, model.size_bytes) for model in list_model_files([tmp_path])]
    assert found == [
        ("b.gguf", ModelForm.GGUF, 10),
        ("hf", ModelForm.FOLDER, 3),
        ("sub/A.GGUF", ModelForm.GGUF, 4),
    ]


def test_a_divided_file_is_one_model_with_the_size_of_all_parts(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write(tmp_path / f"big-0000{number}-of-00003.gguf", 10)
    write(tmp_path / "big-00001-of-00002.gguf", 1)
    found = {model.name: model.size_bytes for model in list_model_files([tmp_path])}
    assert found == {"big-00001-of-00003.gguf": 30, "big-00001-of-00002.gguf": 1}


def test_snapshots_of_the_hugging_face_cache_have_their_repositorys_name(tmp_path: Path) -> None:
    repository = tmp_path / "models--org--tiny-model"
    blob = write(repository / "blobs" / "aa", 7)
    snapshot = repository / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).symlink_to(blob)
    [model] = list_model_files([tmp_path])
    assert (model.name, model.path, model.size_bytes) == ("org/tiny-model @ 0123456", snapshot, 14)


def test_loops_dangling_links_hidden_and_unreadable_things_are_left_out(tmp_path: Path) -> None:
    write(tmp_path / "real.gguf")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling.gguf").symlink_to(tmp_path / "nowhere")
    write(tmp_path / ".hidden" / "x.gguf")
    (tmp_path / "fifo").mkdir()
    os.mkfifo(tmp_path / "fifo" / "pipe.gguf")
    write(tmp_path / os.fsdecode(b"bad\xff.gguf"))
    assert [model.name for model in list_model_files([tmp_path, tmp_path / "missing"])] == ["real.gguf"]


def test_the_search_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / Path(*"abcdefgh") / "deep.gguf")
    for number in range(10):
        write(tmp_path / f"{number}.gguf")
    assert "deep.gguf" not in {model.path.name for model in list_model_files([tmp_path])}
    monkeypatch.setattr(files, "MAX_MODELS", 3)
    assert len(list_model_files([tmp_path])) == 3


def test_the_same_file_below_two_roots_is_one_model(tmp_path: Path) -> None:
    write(tmp_path / "sub" / "a.gguf")
    assert len(list_model_files([tmp_path, tmp_path / "sub"])) == 1
