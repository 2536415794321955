"""Loaded by pytest before Django's settings (``-p tests.environment``): tests never see this machine's Corral.

``CORRAL_TEST_DATABASE_URL`` names a PostgreSQL server to run on; without it tests run on SQLite.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

#: llamactl's variables and Hugging Face's are read as settings too.
FOREIGN = ("CORRAL_", "LLAMACTL_", "HF_TOKEN", "HF_ENDPOINT")

for name in list(os.environ):
    if name.startswith(FOREIGN) and not name.startswith("CORRAL_TEST_"):
        del os.environ[name]

folder = Path(tempfile.mkdtemp(prefix="corral-tests-"))
owner = os.getpid()


def remove_folder() -> None:
    """Remove the folder when the process that made it ends; its forks leave it alone."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


atexit.register(remove_folder)
(folder / "corral.yaml").touch()
os.environ["CORRAL_CONFIG"] = str(folder / "corral.yaml")
os.environ["CORRAL_DATA_DIR"] = str(folder / "data")
os.environ["CORRAL_DATABASE_URL"] = os.environ.get("CORRAL_TEST_DATABASE_URL", "")
