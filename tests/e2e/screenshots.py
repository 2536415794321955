"""``python -m tests.e2e.screenshots``: make the pictures of the README from a Corral with fake engines."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.e2e.conftest import ARGUMENTS, sign_in
from tests.requirements import CHROMIUM
from tests.system.stack import FAKE_ENGINE, ROOT, Stack

IMAGES = ROOT / "docs" / "images"
ENGINE = {
    f"backends_{name}_{part}": value
    for name in ("vllm", "mlx")
    for part, value in (("command", sys.executable), ("args", f"-I -S {FAKE_ENGINE}"))
}


def fill(stack: Stack) -> None:
    """Make instances in every state that lasts."""
    stack.run_now("qwen3-8b", group="chat", flags={"lines_per_second": 2})
    stack.run_now("embedder", group="search", pinned=True)
    stack.create("llama-3.3-70b", group="chat")
    stack.create("qwen3-32b", backend_type="vllm", group="chat", start=True)
    stack.create("gemma-3-4b", backend_type="mlx_lm")
    stack.create("vision", start=True, flags={"never_ready": True})
    reason = "error loading model: missing tensor 'token_embd.weight'"
    stack.create("finetune", auto_restart=False, flags={"crash_at_start": True, "say": reason})
    stack.act("finetune", "start")
    stack.wait_for("qwen3-32b", "ready")
    for name in ("qwen3-8b", "qwen3-32b"):
        stack.chat(name)


def take(browser: Browser, stack: Stack, scheme: str) -> None:
    """Take the pictures in one colour scheme."""
    base = f"http://127.0.0.1:{stack.port}"
    viewport = {"width": 1280, "height": 800}
    context = browser.new_context(base_url=base, viewport=viewport, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    sign_in(page, base)
    for name, path in (("dashboard", "/"), ("instance", "/instances/qwen3-8b/")):
        page.goto(path)
        page.wait_for_timeout(1500)
        page.screenshot(path=IMAGES / f"{name}-{scheme}.png")
    context.close()


def main() -> int:
    """Start a Corral, fill it, take the pictures."""
    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if chromium is None:
        print("No Chromium is installed.", file=sys.stderr)
        return 1
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder), **ENGINE)
        stack.up()
        try:
            fill(stack)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
                for scheme in ("light", "dark"):
                    take(browser, stack, scheme)
                browser.close()
        finally:
            stack.down()
            stack.api.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
