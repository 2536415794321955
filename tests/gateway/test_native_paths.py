"""llama-server's own paths at the root."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.structs import Principal
from tests.gateway.harness import KEY, Gateway, Upstream, make_route

pytestmark = pytest.mark.any_database


@pytest.mark.parametrize(
    ("method", "path", "target"),
    [
        ("POST", "/completion", "/completion"),
        ("POST", "/infill", "/infill"),
        ("POST", "/rerank", "/rerank"),
        ("POST", "/reranking/", "/reranking"),
        ("POST", "/tokenize", "/tokenize"),
        ("GET", "/props", "/props"),
        ("GET", "/slots", "/slots"),
        ("POST", "/slots/1?action=erase", "/slots/1?action=erase"),
        ("GET", "/sdapi/v1/loras", "/sdapi/v1/loras"),
        ("POST", "/sdapi/v1/txt2img", "/sdapi/v1/txt2img"),
        ("POST", "/v/chat/completions", "/chat/completions"),
        ("POST", "/audioapi/v1/tasks/run", "/v1/tasks/run"),
    ],
)
async def test_a_native_path_reaches_the_named_model(
    gateway: Gateway, upstream: Upstream, method: str, path: str, target: str
) -> None:
    await gateway.set_routes(make_route(upstream), make_route(upstream, name="n", instance_id=2))
    body: dict[str, Any] = {"json": {"model": "m"}} if method == "POST" else {"params": {"model": "m"}}
    answer = await gateway.client.request(method, path, **body)
    assert answer.status_code == 200
    seen = answer.json()
    assert seen["method"] == method
    assert seen["target"] == (target if method == "POST" else f"{target}?model=m")


async def test_without_a_name_the_only_ready_model_that_the_key_may_use_answers(
    gateway: Gateway, upstream: Upstream
) -> None:
    await gateway.set_routes(make_route(upstream), make_route(upstream, name="n", instance_id=2))
    several = await gateway.client.get("/slots")
    assert several.status_code == 404
    reason = "the request names no model, and 2 instances are ready (m, n); name one as `model`"
    assert several.json()["error"]["message"] == f"no model id could be identified: {reason}"
    gateway.keys["mine"] = Principal(kind="inference", instances=frozenset([2]))
    for ask in (
        gateway.stranger.get("/slots", headers={"x-api-key": "mine"}),
        gateway.stranger.post("/tokenize", headers={"x-api-key": "mine"}, json={"content": "x"}),
    ):
        assert (await ask).status_code == 200
    assert len(upstream.calls) == 2


async def test_the_reason_for_no_model_names_only_what_the_key_may_use(gateway: Gateway, upstream: Upstream) -> None:
    names = enumerate("mnopqrs", start=1)
    await gateway.set_routes(*(make_route(upstream, name=name, instance_id=number) for number, name in names))
    gateway.keys["two"] = Principal(kind="inference", instances=frozenset([2, 3]))
    gateway.keys["none"] = Principal(kind="inference", instances=frozenset())
    for key, reason in (
        (KEY, "7 instances are ready (m, n, o, p, q, ...)"),
        ("two", "2 instances are ready (n, o)"),
        ("none", "no instance that this key may use is ready"),
    ):
        answer = await gateway.stranger.get("/slots", headers={"x-api-key": key})
        assert reason in answer.json()["error"]["message"]


async def test_a_nameless_request_never_starts_a_model(gateway: Gateway) -> None:
    await gateway.set_routes(make_route())
    for answer in (await gateway.client.get("/props"), await gateway.client.post("/completion", json={"prompt": "x"})):
        assert answer.status_code == 404
        reason = "the request names no model, and no instance that this key may use is ready; name one as `model`"
        assert answer.json()["error"]["message"] == f"no model id could be identified: {reason}"
    assert gateway.app.demand.report() == {}


async def test_malformed_json_is_told_so_and_not_sent_on(gateway: Gateway, upstream: Upstream) -> None:
    """llama-swap, W31: it was taken for a missing model, or passed on broken."""
    answer = await gateway.client.post("/completion", content=b'{"model": "m", ')
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("Invalid request body: ")
    assert upstream.calls == []


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("GET", "/completion", "POST"), ("DELETE", "/props", "GET, POST"), ("PUT", "/slots", "GET")],
)
async def test_the_wrong_method_is_refused_with_the_right_ones(
    gateway: Gateway, method: str, path: str, allow: str
) -> None:
    answer = await gateway.client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allow)


async def test_unknown_paths_below_a_native_prefix_are_not_found(gateway: Gateway) -> None:
    for path in ("/completion/x", "/audioapi/x", "/sdapi/v2/x"):
        assert (await gateway.client.post(path, json={"model": "m"})).status_code == 404


async def test_json_is_found_whatever_the_content_type_says(gateway: Gateway) -> None:
    """llama-swap 8-12: curl's default type made a JSON body invisible."""
    for kind in ("application/x-www-form-urlencoded", "text/plain", ""):
        headers = {"content-type": kind} if kind else {}
        answer = await gateway.client.post("/v1/completions", content=b' {"model":"m"}', headers=headers)
        assert answer.json()["body"] == ' {"model":"m"}'
        missing = await gateway.client.post("/v1/completions", content=b'{"model":"nonexistent"}', headers=headers)
        assert missing.json()["error"]["message"] == "model 'nonexistent' not found in config"


async def test_the_model_may_be_in_a_form_or_in_the_query(gateway: Gateway) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    answer = await gateway.client.post("/v1/audio/voices", content=b"x=1&model=m", headers=form)
    assert answer.json()["body"] == "x=1&model=m"
    answer = await gateway.client.post(
        "/v1/audio/voices?model=m", content=b"\x00raw", headers={"content-type": "audio/x"}
    )
    assert answer.status_code == 200
    nameless = await gateway.client.post("/v1/x", content=b"a=1&" * 2000, headers=form)
    assert (nameless.status_code, nameless.json()["error"]["param"]) == (400, "model")


async def test_an_alias_is_the_model(gateway: Gateway, upstream: Upstream) -> None:
    await gateway.set_routes(make_route(upstream, aliases=("org/model:7b", "gpt-4"), served_model=None))
    for name in ("org/model:7b", "gpt-4"):
        assert (await gateway.ask({"model": name})).json()["body"] == f'{{"model":"{name}"}}'
        assert (await gateway.client.get(f"/v1/models/{name}")).json()["id"] == name
    listed = (await gateway.client.get("/models")).json()["data"]
    assert [entry["id"] for entry in listed] == ["m"]
    assert listed[0]["meta"]["llamaswap"]["aliases"] == ["org/model:7b", "gpt-4"]


async def test_an_unlisted_model_is_callable_but_not_listed(gateway: Gateway, upstream: Upstream) -> None:
    await gateway.set_routes(make_route(upstream, unlisted=True))
    assert (await gateway.client.get("/v1/models")).json()["data"] == []
    assert (await gateway.client.get("/v1/models/m")).status_code == 200
    assert (await gateway.ask()).status_code == 200


async def test_anthropics_clients_get_the_list_in_their_form(gateway: Gateway) -> None:
    answer = (await gateway.client.get("/v1/models", headers={"anthropic-version": "2023-06-01"})).json()
    assert answer["data"] == [{"type": "model", "id": "m", "display_name": "m", "created_at": "1970-01-01T00:28:20Z"}]
    assert (answer["first_id"], answer["last_id"], answer["has_more"]) == ("m", "m", False)
