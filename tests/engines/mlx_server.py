"""A real ``mlx_lm.server``, installed in a virtual environment of its own."""

from __future__ import annotations

import platform
import subprocess
import sys
import venv
from pathlib import Path

from tests.engines.cache import EngineError, find_entry, provide_entry, report, run_step

MLX_LM_VERSION = "0.32.2"
MLX_VERSION = "0.32.4"


def name_entry() -> str:
    """The name of this engine in the cache."""
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    return f"mlx-lm-{MLX_LM_VERSION}-mlx-{MLX_VERSION}-{python}-{platform.system()}-{platform.machine()}".lower()


def find_mlx_server() -> Path:
    """The program. Raises EngineError when it has not been installed."""
    folder = find_entry(name_entry())
    if folder is None:
        raise EngineError("mlx_lm.server is not installed yet: run `python -m tests.engines.build`")
    return folder / "bin" / "mlx_lm.server"


def provide_mlx_server() -> Path:
    """The program, installed on the first call (about half a minute). Raises EngineError."""
    return provide_entry(name_entry(), _install) / "bin" / "mlx_lm.server"


def _install(folder: Path) -> None:
    report("mlx_lm.server: making its environment ...")
    try:
        venv.create(folder, clear=True, with_pip=True, symlinks=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise EngineError(f"mlx_lm.server: its virtual environment can't be made: {error}") from error
    packages = [f"mlx-lm=={MLX_LM_VERSION}", f"mlx[cpu]=={MLX_VERSION}"]
    constraints = Path(__file__).with_name("mlx-constraints.txt")
    run_step(
        f"mlx_lm.server: installing {' '.join(packages)}",
        [folder / "bin" / "python", "-m", "pip", "install", "--constraint", constraints, *packages],
    )
