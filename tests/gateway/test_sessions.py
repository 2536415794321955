"""What a signed-in browser may do when some other site makes it send a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.asgi import Scope
from gateway.structs import Principal
from tests.gateway.harness import Gateway, Upstream, make_route, wait_until

pytestmark = pytest.mark.any_database

STARTING = ("/upstream/off/", "/upstream/off/v1/x", "/v1/x?model=off", "/props?model=off")


async def find_session(scope: Scope) -> Principal | None:
    return Principal(kind="session", user_id=3, instances=None)


@pytest.fixture
async def gateway(upstream: Upstream) -> AsyncIterator[Gateway]:
    async with Gateway(session_principal=find_session) as gateway:
        await gateway.set_routes(make_route(upstream), make_route(name="off", instance_id=2))
        gateway.stranger.headers["cookie"] = "sessionid=anna"
        gateway.stranger.headers["host"] = "models.lan:8080"
        yield gateway


@pytest.mark.parametrize("path", STARTING)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"referer": "http://elsewhere.example/models.lan:8080/"},
        {"referer": "http://models.lan:8080.elsewhere.example/"},
        {"referer": "http://models.lan:9090/"},
        {"sec-fetch-site": "unheard-of", "referer": "http://models.lan:8080/"},
    ],
)
async def test_a_get_of_unproven_origin_starts_nothing(
    gateway: Gateway, method: str, path: str, headers: dict[str, str]
) -> None:
    answer = await gateway.stranger.request(method, path, headers=headers)
    assert answer.status_code == 403
    if method == "GET":
        assert "a link from elsewhere doesn't start it" in answer.json()["error"]["message"]
    assert gateway.app.demand.report() == {}


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "None"},
        {"origin": "http://models.lan:8080"},
        {"referer": "http://Models.LAN:8080/instances/off/"},
    ],
)
async def test_the_portals_own_pages_and_the_visitor_start_a_model(gateway: Gateway, headers: dict[str, str]) -> None:
    asking = asyncio.create_task(gateway.stranger.get("/upstream/off/", headers=headers))
    await wait_until(gateway.app.demand.report)
    waiting = gateway.app.demand.report()[2]
    assert (waiting.count, waiting.can_start) == (1, True)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


@pytest.mark.parametrize(
    "headers",
    [{"sec-fetch-site": "Cross-Site"}, {"sec-fetch-site": "SAME-SITE"}, {"origin": "http://elsewhere.example"}],
)
async def test_what_another_site_asks_for_is_refused(gateway: Gateway, headers: dict[str, str]) -> None:
    for path in ("/upstream/m/", *STARTING):
        answer = await gateway.stranger.get(path, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "cross_site_request")


async def test_a_bookmark_of_a_running_models_page_works(gateway: Gateway, upstream: Upstream) -> None:
    assert (await gateway.stranger.get("/upstream/m/")).status_code == 200
    assert (await gateway.stranger.get("/props?model=m")).status_code == 200
    assert len(upstream.calls) == 2
