"""The card "Sharing" in a browser."""

from __future__ import annotations

import subprocess
import sys

from playwright.sync_api import Page, expect

from tests.system.stack import ROOT, Stack


def test_an_instance_is_shared_changed_and_taken_back_without_leaving_the_page(page: Page, corral: Stack) -> None:
    corral.create("shared")
    command = [sys.executable, "-m", "portal.cli", "createuser", "rita"]
    subprocess.run(command, cwd=ROOT, env=corral.environment, input=b"a long pass phrase\n", check=True, timeout=60)
    page.goto("/instances/shared/")
    card = page.get_by_role("region", name="Sharing")
    card.get_by_label("Share with").select_option("user:rita")
    card.get_by_role("button", name="Share", exact=True).click()
    level = card.get_by_label("What rita may do")
    expect(level).to_have_value("use")
    level.select_option("operate")
    expect(page.get_by_text("rita may operate shared.")).to_be_visible()
    card.get_by_role("button", name="Stop sharing with rita").click()
    expect(level).to_have_count(0)
    assert corral.api.get("/api/v1/instances/shared/shares").json() == []
