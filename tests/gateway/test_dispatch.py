"""Which addresses are the gateway's."""

from __future__ import annotations

from typing import Any, cast

import pytest

from gateway.catalogue import ROUTES, CataloguedRoute
from gateway.dispatch import Dispatcher, choose_usual_form
from gateway.errors import ANTHROPIC, MANAGEMENT, OPENAI
from gateway.exchange import Exchange
from gateway.native import SEGMENTS

pytestmark = pytest.mark.any_database

NAMES = ("inference", "llama_cpp", "model_proxy", "instance_proxy", "router_mode", "control", "scrape")


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("/v1", "inference"),
        ("/v1/", "inference"),
        ("/v1/chat/completions", "inference"),
        ("/models", "inference"),
        ("/completion", "inference"),
        ("/slots/3", "inference"),
        ("/sdapi/v1/txt2img", "inference"),
        ("/v/embeddings", "inference"),
        ("/audioapi/v1/tasks/run", "inference"),
        ("/llama-cpp/m", "llama_cpp"),
        ("/upstream", "model_proxy"),
        ("/upstream/a/b/c", "model_proxy"),
        ("/running", "control"),
        ("/unload", "control"),
        ("/metrics", "scrape"),
        ("/api/models/unload", "control"),
        ("/api/models/unload/a/b", "control"),
        ("/api/v1/llama-cpp/m/models", "router_mode"),
        ("/api/v1/instances/m/proxy", "instance_proxy"),
        ("/api/v1/instances/m/proxy/", "instance_proxy"),
        ("/api/v1/instances/m/proxy/v1/models", "instance_proxy"),
        ("/api/v1/instances/m/proxyx", None),
        ("/api/v1/instances/m", None),
        ("/api/v1/instances/proxy", None),
        ("/api/v1/instances//proxy", None),
        ("/api/v1/instances/m/logs/proxy", None),
        ("/api/v1/backends/llama-cpp/parse-command", None),
        ("/v1x", None),
        ("/v2/models", None),
        ("/", None),
        ("", None),
        ("/instances/upstream", None),
        ("/health", None),
    ],
)
def test_each_address_has_its_part(path: str, part: str | None) -> None:
    dispatcher = Dispatcher(**{name: cast("Any", name) for name in NAMES})
    assert dispatcher.find(path) == part


class _Part:
    def __init__(self, form: str) -> None:
        self.form = form


def ask(path: str, *headers: tuple[bytes, bytes]) -> Exchange:
    unused = cast("Any", None)
    return Exchange({"method": "GET", "path": path, "headers": list(headers)}, unused, unused)


@pytest.mark.parametrize(
    "path", ["/v1/messages", "/v1/messages/count_tokens", "/v/messages", "/upstream/a/v1/messages"]
)
def test_anthropics_routes_answer_errors_in_anthropics_form(path: str) -> None:
    assert choose_usual_form(cast("Any", _Part(OPENAI)), ask(path)) == ANTHROPIC
    assert choose_usual_form(cast("Any", _Part(MANAGEMENT)), ask(path)) == MANAGEMENT


def test_the_path_of_both_apis_answers_errors_in_the_form_that_the_version_header_tells() -> None:
    part = cast("Any", _Part(OPENAI))
    assert choose_usual_form(part, ask("/v1/models/m")) == OPENAI
    assert choose_usual_form(part, ask("/v1/models/m", (b"anthropic-version", b"2023-06-01"))) == ANTHROPIC
    assert choose_usual_form(part, ask("/v1/responses", (b"anthropic-version", b"2023-06-01"))) == OPENAI


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_every_catalogued_route_is_the_gateways(route: CataloguedRoute) -> None:
    dispatcher = Dispatcher(**{name: cast("Any", name) for name in NAMES})
    assert dispatcher.find(route.path.replace("{", "").replace("}", "")) is not None


def test_every_part_and_every_native_path_is_catalogued() -> None:
    dispatcher = Dispatcher(**{name: cast("Any", name) for name in NAMES})
    assert {dispatcher.find(route.path) for route in ROUTES} == set(NAMES)
    segments = {route.path.split("/")[1] for route in ROUTES}
    assert segments >= SEGMENTS
