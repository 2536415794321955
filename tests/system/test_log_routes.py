"""llama-swap's log routes on a real Corral: its own messages, the output of all engines, the output of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.system.stack import ADMIN, PASSWORD, Stack

pytestmark = pytest.mark.any_database


@contextmanager
def following(corral: Stack, path: str) -> Iterator[Iterator[str]]:
    """Open a stream; yields its lines."""
    with corral.api.stream("GET", path) as answer:
        assert answer.status_code == 200, answer.read()
        yield answer.iter_lines()


def read_until(lines: Iterator[str], *wanted: str) -> list[str]:
    """Return the lines up to the one with which each of the wanted texts has been in a line."""
    missing, read = set(wanted), []
    for line in lines:
        read.append(line)
        missing -= {text for text in missing if text in line}
        if not missing:
            return read
    raise AssertionError(f"the stream ended without {missing}: {read}")


def test_an_instance_that_starts_while_the_output_of_all_is_followed_appears_in_it(corral: Stack) -> None:
    corral.run_now("first", flags={"say": "first speaks", "log_requests": True})
    corral.create("second", flags={"say": "second speaks", "log_requests": True})
    with following(corral, "/logs/stream/upstream") as upstream, following(corral, "/logs/stream?no-history") as proxy:
        read_until(upstream, "first speaks")
        assert corral.chat("second").status_code == 200
        read_until(upstream, "second speaks", "/v1/chat/completions")
        assert corral.chat("first").status_code == 200
        read_until(upstream, "/v1/chat/completions")
        messages = read_until(proxy, "[INFO] second starting -> ready")
    assert messages[0].startswith("[INFO] second ")
    assert not any(" first " in line for line in messages)


def test_a_models_output_is_followed_by_its_alias_over_a_restart(corral: Stack) -> None:
    corral.run_now("m", aliases=["org/m"], flags={"say": "hello from m"})
    with following(corral, "/logs/stream/org/m") as lines:
        read_until(lines, "hello from m")
        assert corral.act("m", "restart").status_code == 200
        read_until(lines, "hello from m")
    with following(corral, "/logs/stream/m") as lines:
        assert sum("hello from m" in line for line in read_until(lines, "hello", "listening")) == 1
        read_until(lines, "hello from m", "listening")


def test_the_messages_are_there_without_any_setting_and_tell_a_whole_life(corral: Stack) -> None:
    corral.run_now("life")
    corral.act("life", "stop")
    corral.wait_for("life", "stopped")
    lines = [line for line in corral.api.get("/logs").text.splitlines() if " life " in line]
    changes = [" ".join(line.split(" ")[2:5]) for line in lines if " -> " in line]
    assert changes == ["stopped -> starting", "starting -> ready", "ready -> stopping", "stopping -> stopped"]
    assert all(line.startswith("[INFO] life ") for line in lines)


def test_wrong_names_wrong_keys_and_browsers_get_answers_with_a_body(corral: Stack) -> None:
    answer = corral.api.get("/logs/stream/none/such")
    assert (answer.status_code, answer.text) == (400, "invalid logger. Use 'proxy', 'upstream' or a model's ID")
    with httpx.Client(base_url=corral.api.base_url) as browser:
        for path in ("/logs", "/logs/stream", "/logs/stream/upstream", "/logs/stream/none"):
            refused = browser.get(path)
            assert refused.status_code == 401
            assert refused.json()["error"]["message"] == "Missing API key"
        sent = browser.get("/logs", headers={"Accept": "text/html"})
        assert (sent.status_code, sent.headers["location"]) == (302, "/")
        token = browser.get("/login/").text.partition('name="csrfmiddlewaretoken" value="')[2].partition('"')[0]
        form = {"login": ADMIN, "password": PASSWORD, "csrfmiddlewaretoken": token}
        assert browser.post("/login/", data=form, headers={"Referer": str(browser.base_url)}).status_code == 302
        assert browser.get("/logs").status_code == 200


def test_a_websocket_where_there_is_none_is_refused_with_a_body(corral: Stack) -> None:
    handshake = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "MDEyMzQ1Njc4OWFiY2RlZg==",
    }
    for path in ("/ws", "/llama-cpp/m/ws", "/completion?model=m"):
        answer = corral.api.get(path, headers=handshake)
        assert answer.status_code == 404
        assert answer.json() == {"error": "not_found", "details": "There is no WebSocket at this address."}
