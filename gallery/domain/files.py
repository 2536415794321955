"""Finding model files on this host, to offer them where somebody has to name one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

MAX_DEPTH = 6
MAX_MODELS = 1000
MAX_ENTRIES = 50_000
"""Bounds of one search: levels below a root, models found, and directory entries looked at."""

SHARD = re.compile(r"(?P<base>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
"""A part of a divided GGUF file, as llama.cpp's gguf-split names it."""
SNAPSHOT = re.compile(r"models--(?P<repository>[^/]+)/snapshots/(?P<revision>[0-9a-f]{7})[0-9a-f]*$")
"""A model in the cache folder of huggingface_hub."""


class ModelForm(StrEnum):
    """How a model lies on disk."""

    GGUF = "gguf"
    """One GGUF file, or the first of several parts."""
    FOLDER = "folder"
    """A folder in Hugging Face's layout: config.json and weights."""


@dataclass(frozen=True)
class ModelFile:
    """A model that an engine can be given: ``path`` is what the option takes, ``size_bytes`` counts all its parts."""

    path: Path
    name: str
    form: ModelForm
    size_bytes: int


@dataclass
class Budget:
    """How many directory entries a search may still look at."""

    entries: int = MAX_ENTRIES


def list_model_files(roots: Iterable[Path]) -> list[ModelFile]:
    """Return the models below the folders, by name. Folders that are missing or unreadable hold none.

    The search is bounded (see the constants above); folders behind symbolic links and hidden ones are left out.
    """
    found: dict[Path, ModelFile] = {}
    budget = Budget()
    for root in roots:
        for model in find_models(root, root, MAX_DEPTH, budget):
            found.setdefault(model.path, model)
            if len(found) >= MAX_MODELS:
                break
    return sorted(found.values(), key=lambda model: (model.name.lower(), str(model.path)))


def find_models(root: Path, folder: Path, depth: int, budget: Budget) -> Iterator[ModelFile]:
    """Yield the models in a folder and, as far as ``depth`` goes, below it."""
    files, folders = read_folder(folder, budget)
    if "config.json" in files and any(name.endswith((".safetensors", ".bin", ".npz")) for name in files):
        yield ModelFile(folder, name_folder(root, folder), ModelForm.FOLDER, sum(files.values()))
    for name, size_bytes in files.items():
        shard = SHARD.fullmatch(name)
        if not name.lower().endswith(".gguf") or (shard and int(shard["number"]) != 1):
            continue
        path = folder / name
        total = measure_parts(files, shard) if shard else size_bytes
        yield ModelFile(path, str(path.relative_to(root)), ModelForm.GGUF, total)
    if depth > 0:
        for name in folders:
            yield from find_models(root, folder / name, depth - 1, budget)


def measure_parts(files: dict[str, int], first: re.Match[str]) -> int:
    """Return the size in bytes of all parts of a divided file."""
    parts = (SHARD.fullmatch(name) for name in files)
    return sum(files[part[0]] for part in parts if part and part.group("base", "count") == first.group("base", "count"))


def read_folder(folder: Path, budget: Budget) -> tuple[dict[str, int], list[str]]:
    """Return the folder's files with their sizes in bytes, and its folders; nothing where it can't be read."""
    files: dict[str, int] = {}
    folders: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if budget.entries <= 0:
                    break
                budget.entries -= 1
                if entry.name.startswith(".") or not is_text(entry.name):
                    continue
                try:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.name)
                    elif entry.is_file():
                        files[entry.name] = entry.stat().st_size
                except OSError:  # it vanished, or points to nowhere
                    continue
    except OSError:
        return {}, []
    return dict(sorted(files.items())), sorted(folders)


def is_text(name: str) -> bool:
    """Whether a file name is valid Unicode, so that a page can show it and an option hold it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def name_folder(root: Path, folder: Path) -> str:
    """Return a name people know: ``org/model @ revision`` in Hugging Face's cache, else the path below the root."""
    snapshot = SNAPSHOT.search(folder.as_posix())
    if snapshot:
        return f"{snapshot['repository'].replace('--', '/')} @ {snapshot['revision']}"
    return folder.name if folder == root else str(folder.relative_to(root))
