"""`/llama-cpp/{name}/*` and the router mode."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from gateway.accounting.entry import is_recorded
from gateway.commands import Caller, NoCommands
from gateway.structs import Principal
from tests.gateway.harness import MANAGEMENT_KEY, Call, Gateway, Upstream, make_route

pytestmark = pytest.mark.any_database


async def make_ready(gateway: Gateway, upstream: Upstream) -> None:
    other = make_route(upstream, name="other", instance_id=2)
    await gateway.set_routes(make_route(upstream, backend_type="llama_cpp"), other)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/props"),
        ("POST", "/props"),
        ("GET", "/slots"),
        ("POST", "/apply-template"),
        ("POST", "/completion"),
        ("POST", "/detokenize"),
        ("POST", "/embeddings"),
        ("POST", "/infill"),
        ("POST", "/metrics"),
        ("POST", "/reranking"),
        ("POST", "/tokenize"),
        ("POST", "/v1/chat/completions"),
    ],
)
async def test_listed_paths_are_forwarded_with_the_body_untouched(
    gateway: Gateway, upstream: Upstream, method: str, path: str
) -> None:
    await make_ready(gateway, upstream)
    body = b'{ "prompt" : 1.0 }' if method == "POST" else b""
    answer = await gateway.client.request(method, f"/llama-cpp/m{path}?x=1", content=body)
    assert (answer.json()["method"], answer.json()["target"]) == (method, f"{path}?x=1")
    assert answer.json()["body"].encode() == body


async def test_the_list_is_fixed(gateway: Gateway, upstream: Upstream) -> None:
    await make_ready(gateway, upstream)
    for path in ("/health", "/models", "/v2/x", "/v1x/a", "/slots/1.js/x"):
        assert (await gateway.client.get(f"/llama-cpp/m{path}")).status_code == 404
    for method, path, allow in (
        ("GET", "/completion", "POST"),
        ("GET", "/v1/models", "POST"),
        ("POST", "/slots", "GET"),
    ):
        answer = await gateway.client.request(method, f"/llama-cpp/m{path}")
        assert (answer.status_code, answer.headers["allow"]) == (405, allow)
    assert upstream.calls == []


async def test_the_root_is_public_and_never_starts_the_model(gateway: Gateway, upstream: Upstream) -> None:
    await make_ready(gateway, upstream)
    for path in ("/llama-cpp/m/", "/llama-cpp/m"):
        answer = await gateway.stranger.get(path)
        assert (answer.status_code, answer.json()["target"]) == (200, "/")
    await gateway.set_routes(make_route(upstream, backend_type="llama_cpp", aliases=("a/b",)))
    assert (await gateway.stranger.get("/llama-cpp/a/b/")).json()["target"] == "/"
    await gateway.set_routes(make_route(backend_type="llama_cpp"))
    answer = await gateway.stranger.get("/llama-cpp/m/")
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "Instance is not running")
    assert gateway.app.demand.report() == {}
    # Strangers can't fill the records, whichever way they are answered.
    assert len(gateway.finished) == 4
    assert not any(is_recorded(exchange) for exchange in gateway.finished)


@pytest.mark.parametrize(
    "path", ["/_app/immutable/bundle.C9Ws0ZJV.js", "/_app/version.json", "/index.html", "/m.ico", "/m.webmanifest"]
)
async def test_the_files_of_the_page_are_public_while_the_instance_runs_and_start_nothing(
    gateway: Gateway, upstream: Upstream, path: str
) -> None:
    await make_ready(gateway, upstream)
    answer = await gateway.stranger.get(f"/llama-cpp/m{path}")
    assert (answer.status_code, answer.json()["target"]) == (200, path)
    assert (await gateway.stranger.post(f"/llama-cpp/m{path}")).status_code == 401
    assert (await gateway.client.post(f"/llama-cpp/m{path}")).status_code == 404
    assert (await gateway.stranger.get(f"/llama-cpp/other{path}")).status_code == 400
    assert (await gateway.stranger.get(f"/llama-cpp/m/v1{path}")).status_code == 401
    assert 1 not in gateway.app.activity.last_used
    await gateway.set_routes(make_route(backend_type="llama_cpp"))
    answer = await gateway.stranger.get(f"/llama-cpp/m{path}")
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "Instance is not running")
    assert gateway.app.demand.report() == {}


async def test_the_page_and_its_files_are_confined_to_their_own_folder(gateway: Gateway, upstream: Upstream) -> None:
    route = make_route(upstream, backend_type="llama_cpp", aliases=("a/b", "x;y, *"))
    await gateway.set_routes(route)
    for path, folder in (
        ("/llama-cpp/m/", "/llama-cpp/m/"),
        ("/llama-cpp/m", "/llama-cpp/m/"),
        ("/llama-cpp/m/_app/bundle.js", "/llama-cpp/m/"),
        ("/llama-cpp/a/b/", "/llama-cpp/a/b/"),
        ("/llama-cpp/a%2Fb/", "/llama-cpp/a%2Fb/"),
        ("/llama-cpp/x;y,%20*/", "/llama-cpp/x%3By%2C%20*/"),
    ):
        headers = (await gateway.stranger.get(path)).headers
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy["connect-src"] == f"127.0.0.1:{gateway.port}{folder}", path
        assert policy["default-src"] == policy["form-action"] == policy["frame-src"] == "'none'"
        assert "allow-popups" not in policy["sandbox"]
        assert headers["x-frame-options"] == "DENY"
    answer = await gateway.stranger.get("/llama-cpp/m/", headers={"host": "a b;script-src *"})
    assert "connect-src 'none'" in answer.headers["content-security-policy"]


async def test_a_browser_is_led_into_the_folder_and_an_engine_leads_it_nowhere(
    gateway: Gateway, upstream: Upstream
) -> None:
    await make_ready(gateway, upstream)
    answer = await gateway.stranger.get("/llama-cpp/m?x=1", headers={"accept": "text/html,*/*"})
    assert (answer.status_code, answer.headers["location"]) == (301, "/llama-cpp/m/?x=1")

    async def lead_away(call: Call) -> None:
        await call.read_body()
        lines = ["Location: /api/v1/instances", "Refresh: 0; url=/", 'Clear-Site-Data: "*"']
        await call.answer(b"", *lines, status="307 Temporary Redirect")

    upstream.handler = lead_away
    for answer in (
        await gateway.stranger.get("/llama-cpp/m/"),
        await gateway.stranger.get("/llama-cpp/m/bundle.js"),
        await gateway.client.post("/llama-cpp/m/v1/chat/completions", json={}),
    ):
        assert answer.status_code == 307
        assert not {"location", "refresh", "clear-site-data"} & set(answer.headers)


async def test_everything_but_the_page_needs_a_key(gateway: Gateway, upstream: Upstream) -> None:
    await make_ready(gateway, upstream)
    for method, path in (("GET", "/props"), ("POST", "/completion"), ("POST", "/")):
        assert (await gateway.stranger.request(method, f"/llama-cpp/m{path}")).status_code == 401


async def test_other_engines_and_unknown_names_are_refused(gateway: Gateway, upstream: Upstream) -> None:
    await make_ready(gateway, upstream)
    other = await gateway.client.post("/llama-cpp/other/completion")
    assert (other.status_code, other.json()["error"]["message"]) == (400, "instance is not a llama.cpp server")
    missing = await gateway.client.post("/llama-cpp/none/completion")
    assert (missing.status_code, missing.json()["error"]["message"]) == (404, "instance with name none not found")


async def test_router_mode_lists_loads_and_unloads_models(gateway: Gateway, upstream: Upstream) -> None:
    await make_ready(gateway, upstream)
    base = "/api/v1/llama-cpp/m/models"
    assert (await gateway.manager.get(base)).json()["target"] == "/models"
    for model in ("org%2Fm:Q4", "org/m:Q4"):
        sent = (await gateway.manager.post(f"{base}/{model}/load", content=b'{"model":"x"}')).json()
        assert (sent["target"], sent["body"]) == ("/models/load", '{"model":"x"}')
        sent = (await gateway.manager.post(f"{base}/{model}/unload")).json()
        assert (sent["target"], json.loads(sent["body"])) == ("/models/unload", {"model": "org/m:Q4"})
    assert (await gateway.client.get(base)).status_code == 401
    assert (await gateway.manager.get("/api/v1/llama-cpp/other/models")).status_code == 400
    assert (await gateway.manager.get("/api/v1/llama-cpp/none/models")).status_code == 404
    assert (await gateway.manager.post(base)).status_code == 405
    assert (await gateway.manager.post(f"{base}/x/other")).status_code == 404


async def test_a_key_that_may_not_start_loads_nothing_in_router_mode(gateway: Gateway, upstream: Upstream) -> None:
    gateway.keys[MANAGEMENT_KEY] = Principal(kind="management", key_id=2, user_id=1, instances=None, can_start=False)
    await make_ready(gateway, upstream)
    base = "/api/v1/llama-cpp/m/models"
    assert (await gateway.manager.get(base)).status_code == 200
    answer = await gateway.manager.post(f"{base}/a/load")
    assert (answer.status_code, answer.json()["error"]) == (403, "permission_denied")
    assert answer.json()["details"].endswith("and this key may not start instances")
    assert (await gateway.manager.post(f"{base}/a/unload")).status_code == 200
    assert [call.target for call in upstream.calls] == ["/models", "/models/unload"]


async def test_loading_and_unloading_in_router_mode_are_kept_in_the_audit(upstream: Upstream) -> None:
    class Notes(NoCommands):
        def __init__(self) -> None:
            self.noted: list[object] = []

        async def note(
            self, caller: Caller, action: str, instance_id: int, details: Mapping[str, str] | None = None
        ) -> None:
            self.noted.append((caller.principal.kind, bool(caller.request_id), action, instance_id, details))

    notes = Notes()
    async with Gateway(commands=notes) as gateway:
        await make_ready(gateway, upstream)
        await gateway.manager.get("/api/v1/llama-cpp/m/models")
        await gateway.manager.post("/api/v1/llama-cpp/m/models/a/load")
        await gateway.manager.post("/api/v1/llama-cpp/m/models/a/unload", content=b'{"model":"b"}')
        await gateway.client.post("/api/v1/llama-cpp/m/models/a/load")  # an inference key's is refused

    assert notes.noted == [
        ("management", True, "load_model", 1, {"model": "a"}),
        ("management", True, "unload_model", 1, {"model": "a", "body": '{"model":"b"}'}),
    ]


async def test_a_router_lists_its_models_and_one_that_hangs_is_listed_itself(
    gateway: Gateway, upstream: Upstream
) -> None:
    """llamactl 1.9: an instance that did not answer was left out altogether."""

    async def list_models(call: Call) -> None:
        assert call.headers["authorization"].startswith("Bearer ")
        await call.answer(json.dumps({"data": [{"id": "org/a"}, {"id": "b"}]}).encode())

    upstream.handler = list_models
    await make_ready(gateway, upstream)
    listed = (await gateway.client.get("/v1/models")).json()["data"]
    assert [entry["id"] for entry in listed] == ["m/b", "m/org/a", "other"]
    assert listed[0]["owned_by"] == "m"

    async def hang(call: Call) -> None:
        await call.wait_closed()

    upstream.handler = hang
    await gateway.set_routes(make_route(upstream, backend_type="llama_cpp", run_id=8))
    listed = (await gateway.client.get("/v1/models")).json()["data"]
    assert [entry["id"] for entry in listed] == ["m"]
