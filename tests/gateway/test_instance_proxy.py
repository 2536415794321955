"""`/api/v1/instances/{name}/proxy`."""

from __future__ import annotations

import base64

import msgspec
import pytest

from gateway.asgi import Scope, find_header
from gateway.structs import Principal
from tests.gateway.harness import CONFIG, KEY, MANAGEMENT_KEY, Gateway, RawClient, Upstream, make_route, wait_until

pytestmark = pytest.mark.any_database

PROXY = "/api/v1/instances/m/proxy"


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("", "/"),
        ("/", "/"),
        ("?a=1", "/?a=1"),
        ("/v1/models", "/v1/models"),
        ("/a%2Fb/%C3%A4?x=%26&y=+", "/a%2Fb/%C3%A4?x=%26&y=+"),
        (f"/x?api_key={MANAGEMENT_KEY}&y=1", "/x?y=1"),
        ("/proxy/m", "/proxy/m"),
        ("//double", "//double"),
    ],
)
async def test_the_prefix_goes_and_the_rest_stays(gateway: Gateway, path: str, target: str) -> None:
    assert (await gateway.manager.get(PROXY + path)).json()["target"] == target


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
async def test_every_method_passes_with_its_body(gateway: Gateway, method: str) -> None:
    for body in (b"", b"\x01 not json"):
        seen = (await gateway.manager.request(method, f"{PROXY}/x", content=body)).json()
        assert (seen["method"], seen["body"].encode()) == (method, body)
        assert MANAGEMENT_KEY not in str(seen["headers"])


async def test_only_management_keys_open_it(gateway: Gateway, upstream: Upstream) -> None:
    for headers, message in (
        ({}, "Missing API key"),
        ({"x-api-key": "wrong"}, "Invalid API key"),
        ({"x-api-key": KEY}, "Invalid API key"),
    ):
        answer = await gateway.stranger.get(f"{PROXY}/x", headers=headers)
        assert answer.status_code == 401
        error = {"message": message, "type": "authentication_error", "code": "invalid_api_key", "param": None}
        assert answer.json() == {"error": error}
    assert upstream.calls == []


@pytest.mark.parametrize("state", ["stopped", "starting", "stopping", "backoff", "failed"])
async def test_it_never_starts_an_instance(gateway: Gateway, state: str) -> None:
    await gateway.set_routes(make_route(state=state))
    answer = await gateway.manager.get(f"{PROXY}/health")
    assert answer.status_code == 503
    assert answer.json() == {"error": "instance_not_running", "details": "Instance is not running"}
    assert gateway.app.demand.report() == {}


async def test_an_unknown_instance_is_not_found(gateway: Gateway) -> None:
    answer = await gateway.manager.get("/api/v1/instances/X/proxy/health")
    assert answer.status_code == 404
    assert answer.json() == {"error": "invalid_instance", "details": "instance with name X not found"}


async def test_an_unreachable_instance_is_a_bad_gateway_in_the_management_form(gateway: Gateway) -> None:
    await gateway.set_routes(make_route(state="ready", host="127.0.0.1", port=1))
    answer = await gateway.manager.get(f"{PROXY}/health")
    assert answer.status_code == 502
    assert answer.json() == {"error": "bad_gateway", "details": "Instance m can't be reached: Connection refused"}


@pytest.mark.parametrize("host", ["no.such.host.invalid", "300.1.1.1", "a..b", "x" * 64, "a\0b", ""])
async def test_an_address_nobody_can_have_is_a_bad_gateway_and_no_empty_answer(gateway: Gateway, host: str) -> None:
    """llamactl 11.2-29, 30: a proxy that could not be set up answered 200 with nothing, others 502 with nothing."""
    await gateway.set_routes(make_route(state="ready", host=host, port=1))
    proxied = await gateway.manager.get(f"{PROXY}/v1/models")
    assert (proxied.status_code, proxied.json()["error"]) == (502, "bad_gateway")
    asked = await gateway.ask()
    assert (asked.status_code, asked.json()["error"]["code"]) == (502, "bad_gateway")


async def test_a_limited_key_reaches_its_own_instances_only(gateway: Gateway) -> None:
    gateway.keys["limited"] = Principal(kind="management", instances=frozenset([2]))
    answer = await gateway.manager.get(f"{PROXY}/x", headers={"x-api-key": "limited"})
    assert answer.status_code == 403
    assert answer.json()["error"] == "permission_denied"


async def test_looking_at_health_and_metadata_is_no_use_and_asking_for_work_is(gateway: Gateway) -> None:
    activity = gateway.app.activity
    for path in ("/health", "/v1/models", "/props", "/metrics", "/slots", "/health/"):
        await gateway.manager.get(PROXY + path)
        await gateway.manager.head(PROXY + path)
    await wait_until(lambda: not activity.in_flight)
    assert activity.last_used == {}
    await gateway.manager.post(f"{PROXY}/props")
    assert 1 in activity.last_used


async def find_session(scope: Scope) -> Principal | None:
    cookie = find_header(scope["headers"], b"cookie")
    return Principal(kind="session", user_id=3, instances=frozenset([1])) if cookie == b"sessionid=anna" else None


async def test_a_signed_in_page_may_use_it_but_no_foreign_page_through_it(upstream: Upstream) -> None:
    """llamactl 11.2-40: an engine's page answered 401 to who had signed in."""
    async with Gateway(session_principal=find_session) as gateway:
        await gateway.set_routes(make_route(upstream), make_route(upstream, name="foreign", instance_id=2))
        host = f"127.0.0.1:{gateway.port}"
        client = gateway.stranger
        client.headers["cookie"] = "sessionid=anna"
        seen = await client.get(f"{PROXY}/x")
        assert seen.status_code == 200
        assert "cookie" not in seen.json()["headers"]
        assert (await client.post(f"{PROXY}/x", headers={"origin": f"http://{host}"})).status_code == 200
        for headers in ({}, {"origin": "https://evil.example"}, {"origin": "null"}):
            answer = await client.post(f"{PROXY}/x", headers=headers)
            assert (answer.status_code, answer.json()["error"]) == (403, "cross_site_request")
        assert (await client.get("/api/v1/instances/foreign/proxy/x")).status_code == 403
        client.headers["cookie"] = "sessionid=stranger"
        assert (await client.get(f"{PROXY}/x")).status_code == 401


async def test_a_password_that_a_browser_repeats_for_a_foreign_page_counts_for_nothing(
    gateway: Gateway, upstream: Upstream
) -> None:
    await gateway.set_routes(make_route(upstream))
    evil = "https://evil.example"
    basic = {"authorization": f"Basic {base64.b64encode(f'x:{MANAGEMENT_KEY}'.encode()).decode()}"}
    own = {"origin": f"http://127.0.0.1:{gateway.port}"}
    for method, path in (("POST", f"{PROXY}/x"), ("GET", "/unload"), ("POST", "/api/models/unload")):
        for elsewhere in ({"origin": evil}, {"sec-fetch-site": "cross-site"}):
            answer = await gateway.stranger.request(method, path, headers={**basic, **elsewhere})
            assert answer.status_code == 403, path
            assert "Another site's page may not do this" in answer.text
    for headers in ({}, own, {"sec-fetch-site": "none"}):
        assert (await gateway.stranger.post(f"{PROXY}/x", headers={**basic, **headers})).status_code == 200
    key = {"x-api-key": MANAGEMENT_KEY, "origin": evil}
    assert (await gateway.stranger.post(f"{PROXY}/x", headers=key)).status_code == 200


@pytest.mark.parametrize(
    ("path", "target"), [("%70roxy/a%2Fb", "/a%2Fb"), ("prox%79", "/"), ("proxy%2Fx", None), ("proxy%2F/x", None)]
)
async def test_an_encoded_path_reaches_the_engine_as_one_with_a_slash(
    gateway: Gateway, upstream: Upstream, path: str, target: str | None
) -> None:
    await gateway.set_routes(make_route(upstream))
    async with RawClient(gateway.port) as client:
        client.send("GET", f"/api/v1/instances/m/{path}", key=MANAGEMENT_KEY)
        head = await client.read_head()
    assert head.startswith("HTTP/1.1 200 " if target else "HTTP/1.1 404 ")
    assert [call.target for call in upstream.calls] == ([target] if target else [])


async def test_with_management_keys_switched_off_it_is_open(upstream: Upstream) -> None:
    async with Gateway(msgspec.structs.replace(CONFIG, require_management_auth=False)) as gateway:
        await gateway.set_routes(make_route(upstream))
        assert (await gateway.stranger.post(f"{PROXY}/x")).status_code == 200
        assert (await gateway.stranger.get("/v1/models")).status_code == 401
