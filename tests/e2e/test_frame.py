"""What every page has: signing in, colours, phone width, the keyboard, nothing from elsewhere."""

from __future__ import annotations

import re
import signal

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import OpenPage
from tests.system.stack import ADMIN, PASSWORD, Stack

PAGES = ("/", "/instances/new/", "/instances/wide/", "/instances/wide/edit/", "/instances/wide/delete/", "/nowhere/")


def test_signing_in_leads_to_the_wanted_page_and_out_again(open_page: OpenPage, corral: Stack) -> None:
    corral.create("wanted")
    page = open_page(signed_in=False)
    page.goto("/instances/wanted/")
    expect(page).to_have_url(re.compile(r"/login/\?next=/instances/wanted/$"))
    page.get_by_label("User name").fill(ADMIN)
    page.get_by_label("Password").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"/instances/wanted/$"))
    page.locator("summary", has_text=ADMIN).click()
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(re.compile(r"/login/$"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_and_the_choice_is_kept(open_page: OpenPage, scheme: str) -> None:
    page = open_page(color_scheme=scheme)
    other = {"light": "dark", "dark": "light"}[scheme]
    html = page.locator("html")
    expect(html).to_have_attribute("data-bs-theme", scheme)
    page.get_by_role("button", name="Switch between dark and light").click()
    expect(html).to_have_attribute("data-bs-theme", other)
    page.reload()
    expect(html).to_have_attribute("data-bs-theme", other)


CONTRAST = """(shown) => {
    // A badge of our own: a refresh may have replaced the one shown, and what is not on the page has no colours.
    const badge = document.querySelector(".card").appendChild(shown.cloneNode(true));
    const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const paint = (...colours) => {
        for (const colour of colours) { context.fillStyle = colour; context.fillRect(0, 0, 1, 1); }
        return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
    };
    const light = (rgb) => rgb.map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const card = getComputedStyle(document.querySelector(".card")).backgroundColor;
    return ["secondary", "blue", "green", "yellow", "orange", "red"].map((tone) => {
        badge.className = `status status-${tone}`;
        const { color, backgroundColor } = getComputedStyle(badge);
        const [dark, bright] = [light(paint(card, backgroundColor, color)), light(paint(card, backgroundColor))]
            .sort((a, b) => a - b);
        return [tone, (bright + 0.05) / (dark + 0.05)];
    });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_states_are_legible(open_page: OpenPage, corral: Stack, scheme: str) -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1 for small text."""
    corral.create("legible")
    page = open_page(color_scheme=scheme)
    contrasts = dict(page.locator("[data-state]").evaluate(CONTRAST))
    assert {tone: ratio for tone, ratio in contrasts.items() if ratio < 4.5} == {}
    assert len(contrasts) == 6


BROKEN_WORDS = """(cells) => cells.flatMap((cell) => [...cell.textContent.matchAll(/\\S+/g)].filter((word) => {
    const range = document.createRange();
    range.setStart(cell.firstChild, word.index);
    range.setEnd(cell.firstChild, word.index + word[0].length);
    return range.getClientRects().length > 1;
}).map((word) => word[0]))"""


def test_actors_are_not_broken_inside_words_on_a_phone(open_page: OpenPage, corral: Stack) -> None:
    corral.create("narrow", auto_restart=False, flags={"crash_at_start": True})
    corral.act("narrow", "start")
    corral.wait_for("narrow", "failed")
    page = open_page(viewport={"width": 390, "height": 844})
    page.goto("/instances/narrow/")
    actors = page.locator(".event-actor")
    expect(actors.first).to_have_text("supervisor")
    expect(actors.first).to_be_visible()  # what is not laid out yet has no lines
    assert actors.evaluate_all(BROKEN_WORDS) == []


def test_no_page_is_wider_than_a_phone(open_page: OpenPage, corral: Stack) -> None:
    corral.create("wide", flags={"say": "x" * 200}, group="g" * 50)
    corral.create("w" * 50)
    page = open_page(viewport={"width": 390, "height": 844})
    for path in (*PAGES, f"/instances/{'w' * 50}/"):
        page.goto(path)
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path


def test_every_control_has_a_name_and_pages_load_nothing_from_elsewhere(open_page: OpenPage, corral: Stack) -> None:
    corral.run_now("wide")
    page = open_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for path in PAGES:
        page.goto(path)
        page.wait_for_timeout(300)
        nameless = page.evaluate(
            """() => [...document.querySelectorAll('button, a[href], input, select, textarea, summary')]
                .filter((e) => e.type !== "hidden" && !(e.ariaLabel || e.textContent.trim() || e.labels?.length))
                .map((e) => e.outerHTML.slice(0, 200))"""
        )
        assert nameless == [], path
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
        assert len(ids) == len(set(ids)), path
    assert {url for url in asked if not url.startswith(f"http://127.0.0.1:{corral.port}/")} == set()


def test_the_list_can_be_worked_by_keyboard(page: Page, corral: Stack) -> None:
    corral.create("keys")
    page.reload()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    button = page.get_by_role("button", name="Start keys")
    for _ in range(20):
        if button.evaluate("(e) => e === document.activeElement"):
            break
        page.keyboard.press("Tab")
    expect(button).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("[data-state]")).to_have_text("Ready")


def test_a_page_says_when_corral_is_gone_and_when_it_is_back(open_page: OpenPage, corral: Stack) -> None:
    page = open_page()
    corral.down(signal.SIGTERM)
    note = page.get_by_text("Corral can't be reached at the moment")
    expect(note).to_be_visible()
    corral.up()
    expect(note).to_be_hidden()


def test_who_was_signed_out_elsewhere_is_sent_to_sign_in(open_page: OpenPage, corral: Stack) -> None:
    corral.create("late")
    page = open_page()
    page.context.clear_cookies()
    corral.act("late", "start")  # the page fetches the list anew, and may not
    expect(page).to_have_url(re.compile(r"/login/\?next=/"))
