"""The manual page of settings and ``corral settings``."""

from __future__ import annotations

import msgspec
import pytest

from portal.env import Settings
from portal.settings_table import make_page, run_settings
from tests.system.stack import ROOT


def test_the_manual_page_is_in_step_with_the_settings() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    assert page == make_page(), "write it anew: corral settings --markdown > docs/settings.md"


def test_every_setting_has_a_row_with_type_default_and_meaning() -> None:
    rows = [line.split(" | ") for line in make_page().splitlines() if line.startswith("| `CORRAL_")]
    assert len(rows) == len(msgspec.structs.fields(Settings))
    assert all(len(row) == 5 and row[1] and row[2] and row[3] for row in rows)


def test_the_values_in_effect_are_shown_without_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CORRAL_PORT", "9999")
    monkeypatch.setenv("CORRAL_SECRET_KEY", "very secret")
    assert run_settings([]) == 0
    shown = capsys.readouterr().out
    assert "CORRAL_PORT=9999\n" in shown
    assert "CORRAL_SECRET_KEY=***\n" in shown
    assert "very secret" not in shown
