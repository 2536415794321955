from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engines import models
from tests.engines.cache import EngineError, find_entry, provide_entry, run_step
from tests.engines.llama_server import find_llama_server
from tests.engines.mlx_server import find_mlx_server

pytestmark = pytest.mark.any_database
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CORRAL_TEST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_an_entry_is_built_once_and_only_then_there(cache: Path) -> None:
    calls: list[Path] = []

    def build(folder: Path) -> None:
        assert find_entry("engine") is None
        calls.append(folder)
        (folder / "program").write_text("x")

    assert provide_entry("engine", build) == provide_entry("engine", build) == find_entry("engine") == cache / "engine"
    assert len(calls) == 1


def test_a_build_that_failed_is_not_an_engine_and_can_go_on() -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise EngineError("no compiler")

    with pytest.raises(EngineError, match="no compiler"):
        provide_entry("engine", fail)
    assert find_entry("engine") is None
    provide_entry("engine", lambda folder: (folder / "half").rename(folder / "program"))
    assert find_entry("engine") is not None


def test_builders_at_the_same_time_build_once(cache: Path) -> None:
    code = (
        "import sys, time\n"
        "from tests.engines.cache import provide_entry\n"
        "def build(folder):\n"
        "    with (folder / 'count').open('a') as file: file.write('x')\n"
        "    time.sleep(0.3)\n"
        "provide_entry('engine', build)\n"
    )
    builders = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL) for _ in range(3)]
    assert [builder.wait(30) for builder in builders] == [0, 0, 0]
    assert (cache / "engine" / "count").read_text() == "x"


def test_a_step_that_fails_says_its_last_words() -> None:
    with pytest.raises(EngineError, match=r"compiling failed with status 3.*\nmissing header"):
        run_step("compiling", ["/bin/sh", "-c", "echo missing header >&2; exit 3"])
    with pytest.raises(EngineError, match="can't be run: No such file or directory"):
        run_step("compiling", ["/nowhere/ninja"])


def test_a_missing_engine_names_the_command_that_makes_it() -> None:
    for find in (find_llama_server, find_mlx_server):
        with pytest.raises(EngineError, match=r"run `python -m tests\.engines\.build`"):
            find()


def test_the_models_are_the_same_wherever_they_are_made(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def digest() -> list[str]:
        files = [models.provide_tiny_gguf(), *sorted(models.provide_tiny_hf().glob("*.*"))]
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]

    first = digest()
    monkeypatch.setenv("CORRAL_TEST_CACHE", str(cache.parent / "other"))
    assert digest() == first


def test_the_command_makes_what_it_is_asked_for(cache: Path) -> None:
    command = [sys.executable, "-m", "tests.engines.build"]
    made = subprocess.run([*command, "tiny-gguf"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert made.stdout == f"tiny-gguf: {cache / 'tiny-gguf-1' / 'tiny.gguf'}\n"
    wrong = subprocess.run([*command, "cow"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "unknown engine cow: choose from mlx_lm.server, tiny-gguf, tiny-hf, llama-page, llama-server" in wrong.stderr
