"""Who may ask what under `/v1`, and how refusals look."""

from __future__ import annotations

import time

import msgspec
import pytest

from gateway.structs import Principal
from tests.gateway.harness import CONFIG, KEY, MANAGEMENT_KEY, Gateway, RawClient, Upstream, make_route

pytestmark = pytest.mark.any_database


CONTRACT_FIELDS = ("id", "object", "created", "owned_by")


async def test_other_paths_go_to_the_next_application(gateway: Gateway) -> None:
    answer = await gateway.stranger.get("/login")
    assert (answer.status_code, answer.text) == (299, "the next application")


async def test_models_are_the_instances_that_the_key_may_use_in_any_state(gateway: Gateway, upstream: Upstream) -> None:
    """llamactl 11.2-21, 27: hidden instances were listed, loading ones were not, and hosts were asked."""
    await gateway.set_routes(
        make_route(upstream, name="a"),
        make_route(name="b", instance_id=2, created=1800),
        make_route(name="hidden", instance_id=3),
    )
    gateway.keys["limited"] = Principal(kind="inference", instances=frozenset([1, 2]))
    headers = {"authorization": "Bearer limited"}
    for path in ("/v1/models", "/v1/models/"):
        answer = (await gateway.stranger.get(path, headers=headers)).json()
        assert answer["object"] == "list"
        assert [{key: entry[key] for key in CONTRACT_FIELDS} for entry in answer["data"]] == [
            {"id": "a", "object": "model", "created": 1700, "owned_by": "corral"},
            {"id": "b", "object": "model", "created": 1800, "owned_by": "corral"},
        ]
        assert [entry["status"]["value"] for entry in answer["data"]] == ["loaded", "unloaded"]
    one = (await gateway.stranger.get("/v1/models/b", headers=headers)).json()
    assert one == answer["data"][1]
    for name in ("hidden", "unknown"):
        missing = await gateway.stranger.get(f"/v1/models/{name}", headers=headers)
        assert missing.status_code == 404
        assert missing.json()["error"]["code"] == "model_not_found"
    assert (await gateway.client.get("/v1/models/hidden")).status_code == 200
    assert upstream.calls == []


async def test_without_instances_the_list_is_empty_and_not_null(gateway: Gateway) -> None:
    """llamactl 11.2-27: it was null."""
    await gateway.set_routes()
    assert (await gateway.client.get("/v1/models")).json() == {"object": "list", "data": []}


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({}, "Missing API key"),
        ({"authorization": "Basic dTpw"}, "Invalid API key"),
        ({"authorization": "Basic ="}, "Missing API key"),
        ({"authorization": "Digest dTpw"}, "Missing API key"),
        ({"authorization": "Bearer wrong"}, "Invalid API key"),
        ({"x-api-key": "wrong"}, "Invalid API key"),
    ],
)
async def test_the_key_is_checked_first_on_every_path(gateway: Gateway, headers: dict[str, str], message: str) -> None:
    for method, path in (("GET", "/v1/models"), ("POST", "/v1/x"), ("DELETE", "/v1/y"), ("GET", "/v1/no/such/path")):
        answer = await gateway.stranger.request(method, path, headers=headers)
        assert answer.status_code == 401
        error = {"message": message, "type": "authentication_error", "code": "invalid_api_key", "param": None}
        assert answer.json() == {"error": error}


@pytest.mark.parametrize("key", [KEY, MANAGEMENT_KEY])
async def test_inference_and_management_keys_open_inference(gateway: Gateway, key: str) -> None:
    for headers in ({"authorization": f"bearer {key}"}, {"X-API-KEY": key}):
        answer = await gateway.stranger.post("/v1/completions", json={"model": "m"}, headers=headers)
        assert answer.status_code == 200
    answer = await gateway.stranger.post(f"/v1/completions?api_key={key}", json={"model": "m"})
    assert answer.status_code == 200
    assert len(gateway.lookups) == 1


async def test_an_expired_key_is_invalid(gateway: Gateway) -> None:
    gateway.keys["old"] = Principal(kind="inference", instances=None, expires_at=time.time() - 1)
    answer = await gateway.stranger.get("/v1/models", headers={"x-api-key": "old"})
    assert answer.status_code == 401


async def test_an_instance_outside_the_keys_list_is_forbidden(gateway: Gateway, upstream: Upstream) -> None:
    gateway.keys[KEY] = Principal(kind="inference", instances=frozenset([2]))
    answer = await gateway.ask()
    assert answer.status_code == 403
    assert answer.json()["error"]["message"] == "permission denied: key does not have access to this instance"
    assert answer.json()["error"]["code"] == "permission_denied"
    assert upstream.calls == []


async def test_a_name_with_a_slash_names_a_model_inside_an_instance(gateway: Gateway, upstream: Upstream) -> None:
    await gateway.set_routes(
        make_route(upstream, served_model="own"), make_route(upstream, name="m/exact", instance_id=2, served_model=None)
    )
    for model, sent in (("m/org/inner:Q4", "org/inner:Q4"), ("m/exact", "m/exact"), ("m", "own")):
        answer = await gateway.ask({"model": model})
        assert answer.json()["body"] == f'{{"model":"{sent}"}}'
    for model in ("m/", "/m", "x/m"):
        answer = await gateway.ask({"model": model})
        assert answer.status_code == 404
        assert answer.json()["error"]["message"] == f"model '{model}' not found in config"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "Invalid request body"),
        (b"{not json", "Invalid request body"),
        (b"[1]", "Invalid request body"),
        (b"{}", "Model name is required"),
        (b'{"model":17}', "Model name is required"),
        (b'{"model":""}', "Model name is required"),
    ],
)
async def test_a_body_without_a_model_is_a_bad_request(gateway: Gateway, body: bytes, message: str) -> None:
    answer = await gateway.ask(content=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["message"].startswith(message)
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_request")


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/responses/r1"), ("DELETE", "/v1/files/1")])
async def test_stateful_routes_go_to_the_model_of_the_query_or_the_only_ready_one(
    gateway: Gateway, upstream: Upstream, method: str, path: str
) -> None:
    await gateway.set_routes(make_route(upstream), make_route(name="off", instance_id=2))
    for query in ("", "?model=m"):
        answer = await gateway.client.request(method, path + query)
        assert answer.status_code == 200
        assert (answer.json()["method"], answer.json()["target"]) == (method, path + query)
    await gateway.set_routes(make_route(upstream), make_route(upstream, name="n", instance_id=2))
    answer = await gateway.client.request(method, path)
    assert answer.status_code == 404
    assert answer.json()["error"]["message"].startswith("no model id could be identified")


async def test_the_list_of_models_can_only_be_read(gateway: Gateway) -> None:
    answer = await gateway.client.delete("/v1/models/m")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert answer.json()["error"]["code"] == "method_not_allowed"


async def test_anthropics_clients_get_errors_in_their_form(gateway: Gateway) -> None:
    answer = await gateway.client.post("/v1/messages", json={"model": "unknown"})
    assert answer.status_code == 404
    error = {"type": "not_found_error", "message": "model 'unknown' not found in config"}
    assert answer.json() == {"type": "error", "error": error}
    answer = await gateway.stranger.post("/v1/messages/count_tokens", json={"model": "m"})
    assert answer.json()["error"]["type"] == "authentication_error"


async def test_with_inference_keys_switched_off_everybody_may_use_everything(upstream: Upstream) -> None:
    async with Gateway(msgspec.structs.replace(CONFIG, require_inference_auth=False)) as gateway:
        await gateway.set_routes(make_route(upstream))
        assert (await gateway.stranger.post("/v1/completions", json={"model": "m"})).status_code == 200
        assert len((await gateway.stranger.get("/v1/models")).json()["data"]) == 1
        assert (await gateway.stranger.get("/api/v1/instances/m/proxy/x")).status_code == 401


async def test_a_preflight_is_answered_without_a_key(gateway: Gateway) -> None:
    headers = {
        "origin": "https://chat.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    answer = await gateway.stranger.options("/v1/chat/completions", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-methods"] == "POST"
    assert answer.headers["access-control-allow-headers"] == "authorization,content-type"
    assert "access-control-allow-credentials" not in answer.headers
    plain = await gateway.stranger.options("/v1/models", headers={"origin": "https://chat.example"})
    assert (plain.status_code, plain.headers["access-control-allow-origin"]) == (204, "*")
    assert "POST" in plain.headers["allow"]


async def test_every_answer_says_which_origins_may_read_it(upstream: Upstream) -> None:
    friend, foe = {"origin": "https://friend.example"}, {"origin": "https://foe.example"}
    config = msgspec.structs.replace(CONFIG, allowed_origins=("https://friend.example",))
    async with Gateway(config) as gateway:
        await gateway.set_routes(make_route(upstream))
        for path in ("/v1/models", "/v1/nothing"):
            answer = await gateway.client.get(path, headers=friend)
            assert answer.headers["access-control-allow-origin"] == "https://friend.example"
            assert "x-request-id" in answer.headers["access-control-expose-headers"]
            assert answer.headers["vary"] == "Origin"
            assert "access-control-allow-origin" not in (await gateway.client.get(path, headers=foe)).headers
            assert "access-control-allow-origin" not in (await gateway.client.get(path)).headers
        preflight = {**foe, "access-control-request-method": "POST"}
        answer = await gateway.stranger.options("/v1/completions", headers=preflight)
        assert "access-control-allow-methods" not in answer.headers


async def test_before_the_first_look_at_the_database_requests_are_told_to_come_back() -> None:
    gateway = Gateway(msgspec.structs.replace(CONFIG, require_inference_auth=False))
    gateway.database_error = RuntimeError("no database")
    async with gateway:
        answer = await gateway.ask()
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        gateway.database_error = None
        await gateway.set_routes(make_route())
        assert (await gateway.client.get("/v1/models")).status_code == 200


async def test_a_record_of_each_request_is_handed_over_when_it_is_over(gateway: Gateway) -> None:
    await gateway.ask()
    await gateway.ask({"model": "unknown"})
    async with RawClient(gateway.port) as client:
        client.send("GET", "/v1/models", key="wrong")
        await client.read_head()
    done, unknown, stranger = gateway.finished
    assert (done.status, done.outcome, done.model, done.principal.key_id) == (200, "answered", "m", 1)
    assert done.route is not None
    assert done.sent_bytes > 0
    assert done.received_s <= done.first_byte_s <= done.ended_s
    assert (unknown.status, unknown.outcome, unknown.model) == (404, "refused", "unknown")
    assert (stranger.status, stranger.principal) == (401, None)
