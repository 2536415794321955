"""What is kept of a head: the next request with the same one is served no differently for it."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from gateway.facts import AnswerFacts, RequestFacts
from gateway.structs import Principal
from tests.gateway.harness import KEY, UPSTREAM_KEY, Call, Gateway, RawClient, Upstream, make_route, wait_until
from tests.gateway.short_way import warm

pytestmark = pytest.mark.any_database


async def ask(client: RawClient, *headers: str, model: str = "m") -> tuple[list[str], bytes]:
    body = b'{"model":"%b"}' % model.encode()
    client.send("POST", "/v1/chat/completions", *headers, body=body)
    head = (await client.read_head()).lower().rstrip().split("\r\n")
    length = next(int(line[15:]) for line in head if line.startswith("content-length:"))
    return head, await client.reader.readexactly(length)


async def ask_from(host: str, gateway: Gateway) -> dict[str, str]:
    """What the engine sees of a request from this address."""
    plain = socket.socket()
    plain.bind((host, 0))
    plain.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", gateway.port))
    async with RawClient(gateway.port) as client:
        client.writer.close()
        client.reader, client.writer = await asyncio.open_connection(sock=plain)
        _, body = await ask(client)
    found: dict[str, str] = json.loads(body)["headers"]
    return found


async def test_the_same_head_from_another_client_carries_that_client_s_address(
    gateway: Gateway, upstream: Upstream, taken: list[bool]
) -> None:
    await warm(gateway, upstream)
    taken.clear()
    seen = [(await ask_from(host, gateway))["x-forwarded-for"] for host in ("127.0.0.1", "127.0.0.2", "127.0.0.1")]
    assert seen == ["127.0.0.1", "127.0.0.2", "127.0.0.1"]
    assert taken == [True] * 3


async def test_the_same_head_goes_to_whatever_engine_its_model_runs_on_by_then(
    gateway: Gateway, upstream: Upstream, taken: list[bool]
) -> None:
    await warm(gateway, upstream)
    taken.clear()
    async with Upstream() as other, RawClient(gateway.port) as client:
        elsewhere = make_route(other, instance_id=2, name="n", upstream_key="other", path_prefix="/llm")
        seen = []
        for routes in ((make_route(upstream), elsewhere), (make_route(upstream, upstream_key="next"), elsewhere)):
            await gateway.set_routes(*routes)
            await gateway.ask()  # its key is known again
            for model in ("m", "n", "m"):
                _, body = await ask(client, model=model)
                call = json.loads(body)
                seen.append((call["target"], call["headers"]["authorization"]))
    there = ("/llm/v1/chat/completions", "Bearer other")
    here, then = (("/v1/chat/completions", f"Bearer {key}") for key in (UPSTREAM_KEY, "next"))
    assert seen == [here, there, here, then, there, then]
    assert all(taken[1:])


async def test_the_same_head_is_refused_once_its_key_may_no_longer(gateway: Gateway, upstream: Upstream) -> None:
    async with RawClient(gateway.port) as client:
        assert (await ask(client))[0][0] == "http/1.1 200 ok"
        gateway.keys[KEY] = Principal(kind="inference", key_id=1, user_id=1, instances=frozenset())
        gateway.app.runtime._keys.clear()
        assert (await ask(client))[0][0] == "http/1.1 403 forbidden"
        del gateway.keys[KEY]
        gateway.app.runtime._keys.clear()
        assert (await ask(client))[0][0] == "http/1.1 401 unauthorized"


async def test_answers_with_the_same_head_carry_what_is_their_own(
    gateway: Gateway, upstream: Upstream, taken: list[bool]
) -> None:
    await warm(gateway, upstream)
    taken.clear()
    bodies = [b"one", b"two", b"a longer one", b""]
    statuses = ["200 OK", "200 OK", "503 Service Unavailable", "503 Service Unavailable"]

    async def answer(call: Call) -> None:
        await call.read_body()
        number = len(upstream.calls) - 1
        await call.answer(bodies[number], "Content-Type: text/plain", "Set-Cookie: a=b", status=statuses[number])

    upstream.handler = answer
    async with RawClient(gateway.port) as client:
        answers = [await ask(client) for _ in bodies]
    assert [body for _, body in answers] == bodies
    assert [head[0] for head, _ in answers] == [f"http/1.1 {status.lower()}" for status in statuses]
    ids = [line for head, _ in answers for line in head if line.startswith("x-request-id:")]
    assert len(set(ids)) == len(bodies)
    for head, body in answers:
        assert "content-type: text/plain" in head
        assert f"content-length: {len(body)}" in head
        assert [line.partition(":")[0] for line in head].count("date") == 1
        assert not any(line.startswith(("set-cookie", "transfer-encoding")) for line in head)
    await wait_until(lambda: len(gateway.finished) == len(bodies))
    assert [exchange.status for exchange in gateway.finished] == [200, 200, 503, 503]
    assert [exchange.sent_bytes for exchange in gateway.finished] == [len(body) for body in bodies]
    assert taken == [True] * len(bodies)


async def test_a_connection_that_is_to_end_after_an_answer_with_a_known_head_ends(
    gateway: Gateway, upstream: Upstream, taken: list[bool]
) -> None:
    await warm(gateway, upstream)
    taken.clear()
    async with RawClient(gateway.port) as client:
        await ask(client)
        head, _ = await ask(client)
        assert "connection: close" not in head
    async with RawClient(gateway.port) as client:
        head, _ = await ask(client, "Connection: close")
        assert "connection: close" in head
        assert await client.reader.read() == b""
    assert taken == [True] * 3


SCOPE = {
    "method": "POST",
    "path": "/v1/chat/completions",
    "raw_path": b"/v1/chat/completions",
    "query_string": b"",
    "headers": [(b"content-type", b"application/json")],
}


@pytest.mark.parametrize(
    "change",
    [
        {"method": "GET"},
        {"path": "/v1/models/load"},
        {"path": "/completion"},
        {"headers": [(b"content-type", b"multipart/form-data; boundary=x")]},
        {"headers": [(b"user-agent", b"Mozilla/5.0")]},
    ],
    ids=str,
)
def test_some_heads_never_go_the_short_way(change: dict[str, object]) -> None:
    assert RequestFacts(SCOPE).can_go_directly
    assert not RequestFacts({**SCOPE, **change}).can_go_directly


def test_the_lines_of_an_answer_hold_neither_its_length_nor_what_is_for_one_hop() -> None:
    headers = [(b"content-length", b"3"), (b"connection", b"keep-alive"), (b"server", b"x"), (b"date", b"now")]
    facts = AnswerFacts(headers)
    assert (facts.lines, facts.has_date) == (b"server: x\r\ndate: now\r\n", True)
    assert not AnswerFacts(headers[:3]).has_date
