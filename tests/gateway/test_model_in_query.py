"""A model that the query names, and what may do without a name."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest

from gateway.model_name import put_model
from tests.gateway.harness import CONFIG, Call, Gateway, RawClient, Upstream, make_route

pytestmark = pytest.mark.any_database

BOUNDARY = "limit-of-the-parts"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
AUDIO = {"content-type": "audio/wav"}


def write_part(disposition: str, value: str) -> str:
    return f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{value}\r\n"


def write_form(*parts: tuple[str, str]) -> str:
    return "".join(write_part(disposition, value) for disposition, value in parts) + f"--{BOUNDARY}--\r\n"


@pytest.mark.parametrize(
    ("name", "sent"), [("m", "own"), ("alias", "own"), ("m/org%2Finner%3AQ4", "org%2Finner%3AQ4"), ("exact", "exact")]
)
async def test_an_engine_gets_the_query_in_its_own_terms(
    gateway: Gateway, upstream: Upstream, name: str, sent: str
) -> None:
    await gateway.set_routes(
        make_route(upstream, served_model="own", aliases=("alias",)), make_route(upstream, name="exact", instance_id=2)
    )
    for path in ("/slots", "/props", "/v1/responses/r1"):
        answer = await gateway.client.get(f"{path}?a=%20&model={name}&b")
        assert answer.json()["target"] == f"{path}?a=%20&model={sent}&b"


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ('{"content": "x"}', '{"model":"own","content": "x"}'),
        (" { } ", ' {"model":"own" } '),
        ('{"content": {"model": "kept"}, "model": null}', '{"content": {"model": "kept"}, "model": "own"}'),
        ('{"model": 17}', '{"model": "own"}'),
        ("[1, 2]", "[1, 2]"),
        ("model", "model"),
        ("", ""),
    ],
)
async def test_an_object_that_names_no_model_gets_that_of_the_query(
    gateway: Gateway, upstream: Upstream, body: str, sent: str
) -> None:
    await gateway.set_routes(make_route(upstream, served_model="own"), make_route(upstream, name="n", instance_id=2))
    for path in ("/tokenize", "/v1/x"):
        answer = (await gateway.client.post(f"{path}?model=m", content=body)).json()
        assert (answer["target"], answer["body"]) == (f"{path}?model=own", sent)
    untouched = (await gateway.client.post("/tokenize?model=n", content=body)).json()
    assert (untouched["target"], untouched["body"]) == ("/tokenize?model=n", body)


def test_what_is_put_into_an_object_is_told_from_what_only_looks_like_it() -> None:
    assert put_model(b'{"\\u006dodel": null}', "a") == b'{"\\u006dodel": "a"}'
    assert put_model(b'{"x": "\\"model\\": 1"}', 'a"b') == b'{"model":"a\\"b","x": "\\"model\\": 1"}'


@pytest.mark.parametrize("size", [10, 3_000_000])
async def test_a_form_that_names_no_model_gets_that_of_the_query(
    gateway: Gateway, upstream: Upstream, size: int
) -> None:
    await gateway.set_routes(make_route(upstream, served_model="own"))
    file = ('name="file"; filename="a.wav"', "x" * size)
    answer = await gateway.client.post("/v1/audio/transcriptions?model=m", content=write_form(file), headers=FORM)
    assert answer.json()["body"] == write_form(('name="model"', "own"), file)
    assert answer.json()["target"] == "/v1/audio/transcriptions?model=own"
    # What it can't be put into stays as it is.
    for form in (write_form(('name="model"', ""), file), "\r\n" + write_form(file)):
        answer = await gateway.client.post("/v1/audio/transcriptions?model=m", content=form, headers=FORM)
        assert answer.json()["body"] == form


async def test_a_recording_whose_model_the_query_names_passes_however_large_it_is(upstream: Upstream) -> None:
    async def answer_with_digest(call: Call) -> None:
        digest = hashlib.sha256()
        async for piece in call.read_pieces():
            digest.update(piece)
        await call.answer(digest.hexdigest().encode())

    upstream.handler = answer_with_digest
    limits = {"max_body_bytes": 1000, "max_upload_bytes": 10_000_000}
    async with Gateway(msgspec.structs.replace(CONFIG, **limits)) as gateway:
        await gateway.set_routes(make_route(upstream))

        async def send(size: int, **options: Any) -> tuple[int, str]:
            content = b"\0" * size
            answer = await gateway.client.post("/v1/audio/x", content=content, headers=AUDIO, **options)
            return answer.status_code, answer.text

        wanted = hashlib.sha256(b"\0" * 5_000_000).hexdigest()
        assert await send(5_000_000, params={"model": "m"}) == (200, wanted)
        assert (await send(2000))[0] == 413
        assert (await gateway.client.post("/v1/x?model=m", json={"x": "x" * 2000})).status_code == 413
        for kind in ("audio/wav", FORM["content-type"]):
            async with RawClient(gateway.port) as client:
                expects = f"Content-Type: {kind}", "Content-Length: 10000001", "Expect: 100-continue"
                client.send("POST", "/v1/audio/x?model=m", *expects)
                assert (await client.read_head()).startswith("HTTP/1.1 413 ")  # without being let go on


async def test_an_object_is_found_behind_the_type_of_a_form(gateway: Gateway) -> None:
    """llama-swap 8-12."""
    answer = await gateway.client.post("/v1/completions", content=b' {"model":"m"}', headers=FORM)
    assert answer.json()["body"] == ' {"model":"m"}'


async def test_what_is_deleted_may_be_named_in_the_body(gateway: Gateway, upstream: Upstream) -> None:
    """llama-swap 1.1: of any method but GET."""
    await gateway.set_routes(make_route(upstream), make_route(upstream, name="n", instance_id=2, served_model="own"))
    answer = await gateway.client.request("DELETE", "/v1/files/1", json={"model": "n"})
    assert (answer.json()["method"], answer.json()["body"]) == ("DELETE", '{"model":"own"}')
    unknown = await gateway.client.request("DELETE", "/v1/files/1", json={"model": "x"})
    assert unknown.status_code == 404
    assert unknown.json()["error"]["message"] == "model 'x' not found in config"


@pytest.mark.parametrize("body", ["", "{}", '{"metadata": {"a": "b"}}'])
async def test_what_an_engine_keeps_is_the_only_ready_models(gateway: Gateway, upstream: Upstream, body: str) -> None:
    """As `client.responses.cancel(id)` of the library `openai` asks, which names no model."""
    for path in ("/v1/responses/r1/cancel", "/v1/chat/completions/c1"):
        answer = (await gateway.client.post(path, content=body)).json()
        assert (answer["target"], answer["body"]) == (path, body)
    malformed = await gateway.client.post("/v1/responses/r1/cancel", content=b"{")
    assert malformed.status_code == 400
    await gateway.set_routes(make_route(upstream), make_route(upstream, name="n", instance_id=2))
    answer = await gateway.client.post("/v1/responses/r1/cancel", content=body)
    assert answer.status_code == 404
    assert answer.json()["error"]["message"].startswith("no model id could be identified")


async def test_a_slash_at_the_end_makes_no_difference(gateway: Gateway, upstream: Upstream) -> None:
    await gateway.set_routes(make_route(upstream, backend_type="llama_cpp"))
    for path in ("/v1/chat/completions", "/v1/messages", "/v1/responses/r1/cancel", "/llama-cpp/m/tokenize"):
        for _ in range(2):  # the second one comes with a known head
            answer = await gateway.client.post(path + "/?a=1", json={"model": "m"})
            assert answer.json()["target"] == path.removeprefix("/llama-cpp/m") + "?a=1"
    assert (await gateway.client.get("/upstream/m/load/")).json() == {"status": "ok", "message": "m is ready"}


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("GET", "/upstream/nope/load", "nope"),
        ("GET", "/upstream/author/nope/load/", "author/nope"),
        ("DELETE", "/upstream/author/nope/", "author/nope"),
        ("POST", "/upstream/no%20pe/v1/completions", "no pe"),
    ],
)
async def test_an_unknown_model_in_a_path_is_named_without_the_rest(
    gateway: Gateway, method: str, path: str, name: str
) -> None:
    answer = await gateway.client.request(method, path)
    assert (answer.status_code, answer.json()) == (404, {"error": f"model '{name}' not found in config"})
