"""llama-server's own page behind Corral: it works for whoever is signed in, and can't act as a page of the portal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import LIMIT_MS, sign_in
from tests.engines.fixtures import llama_page, llama_server, tiny_gguf
from tests.system.stack import ADMIN, Stack, poll

__all__ = ["llama_page", "llama_server", "tiny_gguf"]


TRY = """([method, path]) => fetch(path, {method, headers: {"x-csrftoken": "x"}})
    .then((answer) => String(answer.status), (error) => error.name)"""


@pytest.fixture(scope="module")
def real(
    tmp_path_factory: pytest.TempPathFactory, llama_server: Path, llama_page: Path, tiny_gguf: Path
) -> Iterator[Stack]:
    """A Corral with a real llama-server that has its page."""
    settings = {"backends_llama_cpp_command": str(llama_server), "backends_llama_cpp_args": ""}
    stack = Stack(tmp_path_factory.mktemp("engine-page"), **settings)
    stack.up()
    options = {"model": str(tiny_gguf), "path": str(llama_page), "threads": 1, "ctx_size": 1024, "n_predict": 8}
    stack.run_now("tiny", backend_options=options)
    stack.create("other", backend_options=options)
    yield stack
    stack.down()
    stack.api.close()


@pytest.fixture
def visit(browser: Browser, real: Stack) -> Iterator[Page]:
    """A page of somebody who is not signed in yet."""
    context = browser.new_context(base_url=f"http://127.0.0.1:{real.port}", viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(LIMIT_MS)
    yield page
    context.close()


def test_who_is_signed_in_opens_the_page_and_chats(visit: Page, real: Stack) -> None:
    sign_in(visit, f"http://127.0.0.1:{real.port}")
    visit.goto("/llama-cpp/tiny")
    assert visit.url.endswith("/llama-cpp/tiny/")
    box = visit.locator("textarea").first
    box.fill("Hello")
    with visit.expect_response(lambda response: response.url.endswith("/llama-cpp/tiny/v1/chat/completions")) as asked:
        box.press("Enter")
    assert asked.value.status == 200
    assert asked.value.finished() is None

    def find_row() -> list[dict[str, Any]]:
        query = {"instance": "tiny", "user": ADMIN, "outcome": "answered"}
        rows = real.api.get("/api/v1/activity", params=query).json()
        return [row for row in rows if row["path"].endswith("/chat/completions")]

    assert poll(find_row, what="the request is in the activity")


def test_the_page_reaches_its_own_engine_and_nothing_else(visit: Page, real: Stack) -> None:
    """Whatever runs in it has the visitor's session: the policy must stop it, not the lack of rights."""
    sign_in(visit, f"http://127.0.0.1:{real.port}")
    assert visit.evaluate(TRY, ["GET", "/api/v1/instances"]) == "200"  # the portal's own page may
    visit.goto("/llama-cpp/tiny/")
    expect(visit.locator("textarea").first).to_be_visible()
    assert visit.evaluate(TRY, ["GET", "./props"]) == "200"
    for method, path in (
        ("GET", "/api/v1/instances"),
        ("POST", "/api/v1/instances/tiny/stop"),
        ("GET", "/llama-cpp/other/props"),
        ("GET", "/llama-cpp/tiny/../other/props"),
        ("POST", "/v1/chat/completions"),
        ("GET", "/"),
    ):
        assert visit.evaluate(TRY, [method, path]) == "TypeError", path
    assert visit.evaluate("window.open('/') === null")
    assert (
        visit.evaluate(
            """async () => {
            const frame = document.createElement('iframe');
            frame.src = '/';
            document.body.append(frame);
            await new Promise((done) => { frame.onload = done; setTimeout(done, 3000); });
            return frame.contentDocument?.querySelector('h1')?.textContent ?? 'nothing';
        }"""
        )
        == "nothing"
    )
    assert (
        visit.evaluate("navigator.serviceWorker.register('./sw.js').then(() => 'registered', (error) => error.name)")
        != "registered"
    )
    assert real.get("tiny")["state"] == "ready"


def test_a_stranger_sees_the_page_but_gets_no_answer_from_the_model(visit: Page, real: Stack) -> None:
    visit.goto("/llama-cpp/tiny/")
    assert visit.evaluate(TRY, ["GET", "./build.json"]) == "200"
    assert visit.evaluate(TRY, ["GET", "./props"]) == "401"
    assert visit.evaluate(TRY, ["POST", "./v1/chat/completions"]) == "401"
    answer = visit.goto("/llama-cpp/other/")
    assert answer is not None
    assert answer.status == 400
    assert real.get("other")["state"] == "stopped"
