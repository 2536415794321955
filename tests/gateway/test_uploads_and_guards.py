"""Forms on their way to a model, and what requests may not make an engine load."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.structs import Principal
from tests.gateway.harness import Call, Gateway, Upstream, make_route, wait_until

pytestmark = pytest.mark.any_database

BOUNDARY = "xyz"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


def make_form(*parts: tuple[str, bytes]) -> bytes:
    pieces = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + value + b"\r\n"
        for name, value in parts
    ]
    return b"".join(pieces) + f"--{BOUNDARY}--\r\n".encode()


@pytest.mark.parametrize("is_first", [True, False])
async def test_an_upload_reaches_the_model_it_names_with_that_name_replaced(
    gateway: Gateway, upstream: Upstream, is_first: bool
) -> None:
    await gateway.set_routes(make_route(upstream, served_model="whisper-large"))
    fields = [("model", b"m"), ("file", b"\x00\xff" * 200_000)]
    form = make_form(*(fields if is_first else fields[::-1]))

    async def collect(call: Call) -> None:
        await call.read_body()
        await call.answer(b"{}")

    upstream.handler = collect
    answer = await gateway.client.post("/v1/audio/transcriptions", content=form, headers=FORM)
    assert answer.status_code == 200
    assert upstream.calls[0].body == form.replace(b"\r\n\r\nm\r\n", b"\r\n\r\nwhisper-large\r\n")
    assert upstream.calls[0].headers["content-type"] == FORM["content-type"]


async def test_an_upload_waits_for_its_instance_to_start(gateway: Gateway, upstream: Upstream) -> None:
    await gateway.set_routes(make_route())
    form = make_form(("model", b"m"), ("file", b"a" * 3_000_000))
    asking = asyncio.create_task(gateway.client.post("/v1/audio/transcriptions", content=form, headers=FORM))
    await wait_until(gateway.app.demand.report)

    async def count(call: Call) -> None:
        await call.answer(json.dumps({"size": len(await call.read_body())}).encode())

    upstream.handler = count
    await gateway.set_routes(make_route(upstream, state_changed_at=2.0))
    assert (await asking).json() == {"size": len(form)}


async def test_a_form_without_a_model_is_refused_or_goes_by_the_query(gateway: Gateway) -> None:
    form = make_form(("file", b"abc"))
    answer = await gateway.client.post("/v1/audio/transcriptions", content=form, headers=FORM)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")
    answer = await gateway.client.post("/v1/audio/transcriptions?model=m", content=form, headers=FORM)
    assert answer.json()["body"] == form.decode()


async def test_a_form_that_is_none_is_a_bad_request(gateway: Gateway, upstream: Upstream) -> None:
    for content in (b"", b"no boundary at all", make_form(("model", b"x"))[:-4]):
        answer = await gateway.client.post("/v1/audio/transcriptions", content=content, headers=FORM)
        assert answer.status_code in (400, 404)
        assert answer.json()["error"]["message"]
    assert upstream.calls == []


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/upstream/m/v1/chat/completions"])
@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","adapters":"/etc"}',
        b'{"model":"m","draft_model":"org/other"}',
        b'{"model":"m","\\u0061dapters":"/etc"}',
        b'{"model":"m","adapters":"/etc","x":NaN}',
    ],
)
async def test_no_request_makes_an_mlx_server_load_what_it_names(
    gateway: Gateway, upstream: Upstream, path: str, body: bytes
) -> None:
    await gateway.set_routes(make_route(upstream, backend_type="mlx_lm", served_model="/models/own"))
    answer = await gateway.client.post(path, content=body)
    assert answer.status_code == 400
    assert upstream.calls == []


@pytest.mark.parametrize("path", ["/v1/completions", "/upstream/m/v1/completions", "/api/v1/instances/m/proxy/v1/x"])
async def test_an_mlx_server_is_asked_for_its_own_model_only(gateway: Gateway, upstream: Upstream, path: str) -> None:
    await gateway.set_routes(make_route(upstream, backend_type="mlx_lm", served_model="/models/own"))
    named = "m" if path.startswith("/v1") else "org/any-repository"
    answer = await gateway.manager.post(path, json={"model": named, "adapters": None})
    assert json.loads(answer.json()["body"])["model"] == "/models/own"


async def test_a_key_that_may_not_use_the_instance_uploads_nothing(gateway: Gateway, upstream: Upstream) -> None:
    gateway.keys["none"] = Principal(kind="inference")
    headers = {**FORM, "x-api-key": "none"}
    answer = await gateway.stranger.post("/v1/x", content=make_form(("model", b"m")), headers=headers)
    assert answer.status_code == 403
    assert upstream.calls == []
