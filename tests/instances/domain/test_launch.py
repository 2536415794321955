"""From settings and options to the spec of a run."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from instances.domain.launch import prepare_run
from instances.models import Run
from tests.conftest import ApiClient
from tests.factories import make_instance, make_run


@pytest.fixture
def prepare(db: None, tmp_path: Path, change_settings: Callable[..., None]) -> Callable[..., dict[str, Any]]:
    """Return a function that prepares a run under some settings and returns its spec."""

    def prepare(**settings: object) -> dict[str, Any]:
        change_settings(data_dir=tmp_path, **settings)
        instance = make_instance(options={"backend_options": {"model": "a.gguf"}, "environment": {"SECRET": "value"}})
        prepared = prepare_run(instance=instance, run=make_run(instance), grace_s=7)
        assert stat.S_IMODE(prepared.spec_path.stat().st_mode) == 0o600
        spec: dict[str, Any] = json.loads(prepared.spec_path.read_text())
        return spec

    return prepare


def test_log_rotation_follows_the_settings(prepare: Callable[..., dict[str, Any]]) -> None:
    spec = prepare(log_rotation_max_size=3, log_rotation_max_files=4, log_rotation_compress=True)
    assert (spec["log_max_bytes"], spec["log_max_files"], spec["log_compress"]) == (3 * 2**20, 4, True)


def test_log_rotation_can_be_switched_off(prepare: Callable[..., dict[str, Any]]) -> None:
    """llamactl 11.2-32: it could not."""
    assert prepare(log_rotation_enabled=False)["log_max_bytes"] == 0


def test_a_preset_added_edited_or_cleared_counts_from_the_next_run(
    db: None, tmp_path: Path, change_settings: Callable[..., None], api: ApiClient
) -> None:
    """llamactl 11.2-18: a preset added later pointed to a missing file, an edited one was not written."""
    change_settings(data_dir=tmp_path)
    instance = make_instance()
    for preset in ("", "[one]\nctx-size = 1\n", "[two]\nctx-size = 2\n", ""):
        assert api("PATCH", "instances/alpha", {"preset_ini": preset}).status_code == 200
        instance.refresh_from_db()
        run = make_run(instance)
        argv = json.loads(prepare_run(instance=instance, run=run, grace_s=7).spec_path.read_text())["argv"]
        assert ("--models-preset" in argv) is bool(preset)
        if preset:
            assert Path(argv[argv.index("--models-preset") + 1]).read_text() == preset
        Run.objects.update(exited_at=timezone.now())


def test_the_engine_gets_its_own_environment_and_none_of_corrals(
    prepare: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORRAL_SECRET_KEY", "nobody's business")
    monkeypatch.setenv("PATH", "/usr/bin")
    environment = prepare()["environment"]
    assert environment["SECRET"] == "value"
    assert environment["PATH"] == "/usr/bin"
    assert "CORRAL_SECRET_KEY" not in environment
    assert len(environment["LLAMA_API_KEY"]) == 64
