"""A browser in front of a real Corral: headless Chromium, ``corral up`` with the fake engine."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from tests.requirements import CHROMIUM
from tests.system.stack import ADMIN, PASSWORD, Stack

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run",
]  # fmt: skip
EXPECTED = re.compile(
    r"^htmx:(afterRequest|sendError|sendAbort)|status of 4\d\d|Response Status Error Code 4\d\d"
    r"|ERR_CONNECTION|ERR_EMPTY|WebSocket connection"
)
"""What the console may say in tests of refusals, of outages and of leaving a page; anything else is a defect."""

LIMIT_MS = 60_000
expect.set_options(timeout=LIMIT_MS)
OpenPage = Callable[..., Page]


def find_chromium() -> str:
    """Return the path of a Chromium; where there is none, skip, but never silently in continuous integration."""
    for name in CHROMIUM:
        if path := shutil.which(name):
            return path
    if os.environ.get("CI"):
        pytest.fail("no Chromium is installed, and continuous integration must run the browser tests")
    pytest.skip("no Chromium is installed")


@pytest.fixture(scope="session")
def live_corral(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running Corral with two model files."""
    folder = tmp_path_factory.mktemp("corral-e2e")
    models = folder / "models"
    (models / "tiny").mkdir(parents=True)
    for name in ("alpha-q4.gguf", "tiny/beta-q8.gguf"):
        (models / name).write_bytes(b"GGUF" + bytes(1000))
    stack = Stack(folder, models_dirs=str(models))
    stack.up()
    yield stack
    stack.down()
    stack.api.close()


@pytest.fixture
def corral(live_corral: Stack) -> Iterator[Stack]:
    """The running Corral; instances that a test leaves behind are removed."""
    yield live_corral
    for instance in live_corral.api.get("/api/v1/instances").json():
        live_corral.remove(instance["name"])


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium."""
    path = find_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


def sign_in(page: Page, base: str) -> None:
    """Sign in as the administrator."""
    page.goto(f"{base}/login/")
    page.get_by_label("User name").fill(ADMIN)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{base}/")


@pytest.fixture
def open_page(browser: Browser, corral: Stack, tmp_path: Path) -> Iterator[OpenPage]:
    """Return a function that opens a signed-in page with options of a browser context.

    A page that complains on its console, be it about the content security policy, fails the test.
    """
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not EXPECTED.search(message.text):
            complaints.append(message.text)

    def open_one(*, signed_in: bool = True, **options: object) -> Page:
        options.setdefault("viewport", {"width": 1280, "height": 900})
        options.setdefault("base_url", f"http://127.0.0.1:{corral.port}")
        context = browser.new_context(**options)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(LIMIT_MS)
        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        if signed_in:
            sign_in(page, f"http://127.0.0.1:{corral.port}")
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def page(open_page: OpenPage) -> Page:
    """A signed-in page of a desktop's size."""
    return open_page()
