"""The live log in the browser."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.e2e.conftest import OpenPage
from tests.system.stack import Stack

TOP = "document.querySelector('[data-log-view]').scrollTop"


def test_the_log_is_followed_until_somebody_scrolls_up(page: Page, corral: Stack) -> None:
    """llamactl 10.6: the log jumped to its end even if the user had scrolled up."""
    corral.run_now("chatty", flags={"lines_per_second": 100})
    page.goto("/instances/chatty/")
    view = page.locator("[data-log-view]")
    expect(view).to_contain_text("line 150")
    end = page.get_by_role("button", name="Jump to the end")
    expect(end).to_be_hidden()
    view.hover()
    page.mouse.wheel(0, -400)
    expect(end).to_be_visible()
    expect(page.locator("[data-log-state]")).to_contain_text("Paused")
    before = page.evaluate(TOP)
    page.wait_for_timeout(1000)
    assert page.evaluate(TOP) == before
    end.click()
    expect(end).to_be_hidden()
    expect(page.locator("[data-log-state]")).to_contain_text("Following")


def test_thirty_thousand_lines_leave_twenty_thousand_and_few_elements(page: Page, corral: Stack) -> None:
    corral.run_now("flood", flags={"lines_per_second": 10000, "for": 3})
    page.goto("/instances/flood/")
    expect(page.locator("[data-log-view]")).to_contain_text("line 29999")
    expect(page.locator("[data-log-state]")).to_contain_text(re.compile(r"\d+ lines"))
    assert page.locator(".log-line").count() < 250
    kept = page.evaluate("document.querySelector('.log-space').getBoundingClientRect().height / 20")
    assert kept <= 22100


def test_a_lost_connection_goes_on_where_it_was_cut_off(open_page: OpenPage, corral: Stack) -> None:
    corral.run_now("cut", flags={"lines_per_second": 50})
    page = open_page()
    sockets = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    page.goto("/instances/cut/")
    expect(page.locator("[data-log-view]")).to_contain_text(re.compile(r"line \d{3}"))
    # It may be said for less time than passes between two looks from here.
    page.evaluate(
        """() => {
            const state = document.querySelector('[data-log-state]');
            new MutationObserver(() => {
              if (state.textContent.includes('connecting again')) document.body.dataset.wasLost = 'yes';
            }).observe(state, { childList: true, characterData: true, subtree: true });
        }"""
    )
    corral.part("web").kill()
    expect(page.locator("body[data-was-lost]")).to_have_count(1)
    expect(page.locator("[data-log-state]")).to_contain_text("Following")
    number = int(re.findall(r"line (\d+)", page.locator(".log-rows").inner_text())[-1])
    expect(page.locator("[data-log-view]")).to_contain_text(f"line {number + 100}")
    assert any("cursor=" in url for url in sockets)
    page.locator("[data-log-view]").hover()
    page.get_by_label("Find in the log").fill("line 10")
    page.evaluate("document.querySelector('[data-log-view]').scrollTop = 0")
    expect(page.locator("[data-log-view]")).to_contain_text("line 0")
    lines = page.evaluate(
        """async () => {
            const view = document.querySelector('[data-log-view]');
            const seen = new Set();
            for (let top = 0; top < view.scrollHeight; top += 300) {
              view.scrollTop = top;
              await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
              for (const row of view.querySelectorAll('.log-line')) {
                const found = row.textContent.match(/^line (\\d+)$/);
                if (found) seen.add(Number(found[1]));
              }
            }
            return [...seen].sort((a, b) => a - b);
        }"""
    )
    assert lines[:150] == list(range(150))
    assert lines[: number + 50] == list(range(number + 50))


def test_finding_marks_and_steps_through_the_matches(page: Page, corral: Stack) -> None:
    corral.run_now("find", flags={"lines_per_second": 1000, "for": 1, "say": "a NEEDLE in it"})
    page.goto("/instances/find/")
    expect(page.locator("[data-log-view]")).to_contain_text("line 999")
    search = page.get_by_label("Find in the log")
    search.fill("needle")
    search.press("Enter")
    expect(page.locator("[data-log-found]")).to_have_text("1/1")
    expect(page.locator(".is-current mark")).to_have_text("NEEDLE")
    search.fill("line 99")
    search.press("Enter")
    expect(page.locator("[data-log-found]")).to_have_text("1/11")
    search.press("Shift+Enter")
    expect(page.locator("[data-log-found]")).to_have_text("11/11")
    expect(page.locator(".is-current")).to_contain_text("line 999")


def test_streams_can_be_told_apart_and_times_shown(page: Page, corral: Stack) -> None:
    corral.run_now("streams", flags={"say": "from stderr"})
    page.goto("/instances/streams/")
    view = page.locator("[data-log-view]")
    expect(view).to_contain_text("from stderr")
    expect(view).to_contain_text("listening on")
    page.get_by_label("Stream", exact=True).select_option("stderr")
    expect(view).not_to_contain_text("listening on")
    expect(view).to_contain_text("from stderr")
    page.get_by_role("button", name="Times").click()
    expect(view.locator(".log-stderr").first).to_have_text(re.compile(r"^\d\d:\d\d:\d\d\.\d{3} "))


def test_colours_and_progress_bars_are_shown_as_a_terminal_would(page: Page, corral: Stack) -> None:
    page.goto("/login/")
    text = page.evaluate(
        """async () => {
            const source = document.querySelector('script[src*="/js/ui"]').src.replace(/[^/]+$/, "");
            const { collapse, levelOf, readAnsi } = await import(source + "log-text.js");
            return [
              readAnsi("\\u001b[1;31mred\\u001b[0m plain \\u001b[38;5;46mgreen"),
              readAnsi("\\u001b]0;title\\u0007a\\u001b[2Kb\\u0007"),
              collapse(" 10%\\r 50%\\r100%\\r"),
              collapse("no return"),
              levelOf("E0000 Error: x"), levelOf("[WARNING] y"), levelOf("a terror"), levelOf("plain"),
            ];
        }"""
    )
    assert text[0]["text"] == "red plain green"
    assert text[0]["spans"] == [[3, "ansi-bold ansi-front-1"], [7, ""], [5, "ansi-front-2"]]
    assert text[1] == {"text": "ab", "spans": None}
    assert text[2:] == ["100%", "no return", "error", "warning", "", ""]


def test_what_is_selected_stays_selected_while_lines_arrive(page: Page, corral: Stack) -> None:
    corral.run_now("select", flags={"lines_per_second": 50})
    page.goto("/instances/select/")
    expect(page.locator("[data-log-view]")).to_contain_text("line 60")
    # In one step: on a busy machine a row that was found is out of sight when the mouse gets there.
    chosen = page.evaluate(
        """() => {
            const rows = document.querySelectorAll("[data-log-view] .log-line");
            const row = rows[rows.length >> 1];
            getSelection().selectAllChildren(row);
            return row.textContent;
        }"""
    )
    assert re.fullmatch(r"line \d+", chosen)
    page.wait_for_timeout(1000)
    assert page.evaluate("String(getSelection())") == chosen
