"""`/upstream/{model}/*`, `/running` and the unload routes, in llama-swap's words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

import pytest

from gateway.commands import Caller
from gateway.errors import GatewayError
from gateway.structs import Principal
from tests.gateway.harness import Gateway, Upstream, make_route

pytestmark = pytest.mark.any_database


class Stops:
    """Stands for the database: remembers what was to be stopped."""

    def __init__(self) -> None:
        self.stopped: list[tuple[int | None, list[int]]] = []
        self.noted: list[tuple[str, int, Mapping[str, str] | None]] = []
        self.refusal: GatewayError | None = None

    async def stop(self, caller: Caller, instance_ids: Sequence[int]) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.stopped.append((caller.principal.key_id, list(instance_ids)))

    async def describe(self, instance_ids: Sequence[int]) -> dict[int, str]:
        return {instance_id: f"engine --id {instance_id}" for instance_id in instance_ids}

    async def note(
        self, caller: Caller, action: str, instance_id: int, details: Mapping[str, str] | None = None
    ) -> None:
        self.noted.append((action, instance_id, details))


@pytest.fixture
def stops() -> Stops:
    return Stops()


@pytest.fixture
async def gateway(upstream: Upstream, stops: Stops) -> AsyncIterator[Gateway]:
    async with Gateway(commands=stops) as gateway:
        await gateway.set_routes(make_route(upstream), make_route(name="off", instance_id=2))
        yield gateway


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/upstream/m/v1/chat/completions?a=1", "/v1/chat/completions?a=1"),
        ("/upstream/m/", "/"),
        ("/upstream/author/model/x%2Fy", "/x%2Fy"),
        ("/upstream/author%2Fmodel/x", "/x"),
        ("/upstream/author/model/load/x", "/x"),
        ("/upstream/author/model/load/load?passthrough=1", "/load?passthrough=1"),
    ],
)
async def test_the_longest_name_counts_and_the_rest_of_the_path_keeps_its_bytes(
    gateway: Gateway, upstream: Upstream, path: str, target: str
) -> None:
    await gateway.set_routes(
        make_route(upstream),
        make_route(upstream, name="n", instance_id=2, aliases=("author/model",)),
        make_route(upstream, name="o", instance_id=3, aliases=("author/model/load",)),
        make_route(upstream, name="author", instance_id=4),
    )
    answer = await gateway.client.post(path, content=b"any bytes")
    assert (answer.json()["target"], answer.json()["body"]) == (target, "any bytes")


@pytest.mark.parametrize(("method", "status"), [("GET", 301), ("HEAD", 301), ("POST", 308)])
async def test_a_bare_model_redirects_to_its_root_keeping_the_query(gateway: Gateway, method: str, status: int) -> None:
    answer = await gateway.client.request(method, "/upstream/m?x=1")
    assert (answer.status_code, answer.headers["location"]) == (status, "/upstream/m/?x=1")


async def test_upstream_alone_leads_to_the_dashboard(gateway: Gateway) -> None:
    for path in ("/upstream", "/upstream/"):
        answer = await gateway.stranger.get(path)
        assert (answer.status_code, answer.headers["location"]) == (302, "/")


async def test_a_pages_file_does_not_load_a_cold_model(gateway: Gateway, upstream: Upstream) -> None:
    answer = await gateway.client.get("/upstream/off/a.js")
    assert answer.status_code == 409
    assert answer.json()["error"]["message"].startswith("model off is not loaded")
    assert gateway.app.demand.report() == {}
    assert (await gateway.client.get("/upstream/m/a.js")).status_code == 200


async def test_load_answers_once_the_model_is_ready(gateway: Gateway, upstream: Upstream) -> None:
    answer = await gateway.client.get("/upstream/m/load")
    assert (answer.status_code, answer.text) == (200, '{"status":"ok","message":"m is ready"}')
    assert (await gateway.client.post("/upstream/m/load")).json()["target"] == "/load"


async def test_delete_unloads_in_the_contracts_words(gateway: Gateway, stops: Stops) -> None:
    for path in ("/upstream/m", "/upstream/m/"):
        answer = await gateway.manager.delete(path)
        assert (answer.status_code, answer.text) == (200, '{"status":"ok","message":"m stopped"}')
    assert stops.stopped == [(2, [1]), (2, [1])]
    answer = await gateway.manager.delete("/upstream/off")
    assert (answer.status_code, answer.text) == (409, '{"status":"error","message":"off is not running"}')
    answer = await gateway.manager.delete("/upstream/none")
    assert (answer.status_code, answer.text) == (404, '{"error":"model \'none\' not found in config"}')
    assert (await gateway.manager.delete("/upstream/m/deeper")).json()["method"] == "DELETE"


async def test_an_inference_key_cannot_unload(gateway: Gateway, stops: Stops) -> None:
    asked = [
        ("DELETE", "/upstream/m"),
        ("GET", "/unload"),
        ("POST", "/api/models/unload"),
        ("POST", "/api/models/unload/m"),
    ]
    for method, path in asked:
        answer = await gateway.client.request(method, path)
        assert answer.status_code == 403
        assert "management key" in answer.text
    assert stops.stopped == []


async def test_running_lists_ready_models_and_details_for_those_who_manage(
    gateway: Gateway, upstream: Upstream
) -> None:
    assert (await gateway.client.get("/running")).text == '{"running":["m"]}'
    full = (await gateway.manager.get("/running?detail=1")).json()["running"]
    assert full == [
        {
            "model": "m",
            "state": "ready",
            "cmd": "engine --id 1",
            "proxy": f"http://127.0.0.1:{upstream.port}",
            "ttl": 0,
            "name": "m",
            "description": "",
        }
    ]
    limited = (await gateway.client.get("/running?detail=1")).json()["running"]
    assert (limited[0]["cmd"], limited[0]["proxy"]) == ("", "")
    gateway.keys["none"] = Principal(kind="inference")
    assert (await gateway.stranger.get("/running", headers={"x-api-key": "none"})).text == '{"running":[]}'
    assert (await gateway.stranger.get("/running")).status_code == 401


async def test_unload_stops_everything_or_one(gateway: Gateway, stops: Stops) -> None:
    answer = await gateway.manager.get("/unload")
    assert (answer.status_code, answer.text) == (200, "OK")
    assert (await gateway.manager.post("/api/models/unload")).json() == {"msg": "ok"}
    assert (await gateway.manager.post("/api/models/unload/m")).text == "OK"
    assert (await gateway.manager.post("/api/models/unload/off")).text == "OK"
    assert stops.stopped == [(2, [1])] * 3
    missing = await gateway.manager.post("/api/models/unload/none")
    assert (missing.status_code, missing.text) == (404, '{"error":"model \'none\' not found in config"}')
    assert (await gateway.manager.get("/api/models/unload")).status_code == 405


async def test_a_refused_stop_is_told(gateway: Gateway, stops: Stops) -> None:
    stops.refusal = GatewayError(403, "permission_denied", "You may not operate m.")
    answer = await gateway.manager.delete("/upstream/m")
    assert (answer.status_code, answer.json()["error"]["message"]) == (403, "You may not operate m.")


async def test_browsers_get_a_page_and_others_json(gateway: Gateway) -> None:
    page = await gateway.client.get("/upstream/off/a.js", headers={"accept": "text/html,*/*"})
    assert (page.status_code, page.headers["content-type"]) == (409, "text/html; charset=utf-8")
    assert "model off is not loaded" in page.text
    stranger = await gateway.stranger.get("/upstream/m/", headers={"accept": "text/html"})
    assert (stranger.status_code, stranger.headers["www-authenticate"].split()[0]) == (401, "Basic")
    assert "www-authenticate" not in (await gateway.stranger.get("/upstream/m/")).headers
    text = await gateway.client.get("/upstream/nope/", headers={"accept": "text/plain"})
    assert (text.status_code, text.headers["content-type"]) == (404, "text/plain; charset=utf-8")
    assert text.text == "Corral: model 'nope' not found in config"
    assert (await gateway.client.get("/upstream/nope/", headers={"accept": "application/json, text/plain"})).json()
    assert "<script" not in (await gateway.client.get("/running/<script>", headers={"accept": "text/html"})).text


@pytest.mark.parametrize(
    ("wanted", "body"),
    [
        ("string", {"error": "model 'x' not found in config"}),
        ("OpenAI", None),
        ("management", {"error": "model_not_found", "details": "model 'x' not found in config"}),
    ],
)
async def test_the_form_of_errors_can_be_chosen(gateway: Gateway, wanted: str, body: object) -> None:
    answer = await gateway.client.post("/v1/completions", json={"model": "x"}, headers={"x-error-format": wanted})
    assert answer.status_code == 404
    if body is not None:
        assert answer.json() == body
    else:
        assert answer.json()["error"]["type"] == "invalid_request_error"
