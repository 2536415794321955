"""A limit of tokens counts streams whose usage Corral isn't told: the engine is silent, or the client leaves first."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.exchange import Exchange
from tests.gateway.harness import Call, Gateway, Upstream, Valkey, wait_until
from tests.gateway.quotas.conftest import Source, make_quota, open_gateways

pytestmark = pytest.mark.any_database

DIALECTS = ("/v1/chat/completions", "/v1/messages")
SSE = "Content-Type: text/event-stream"


def write_event(path: str, text: str) -> bytes:
    """An event that brings this text, in the dialect of the path."""
    event: dict[str, Any] = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}}]}
    if path == "/v1/messages":
        event = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
    return b"data: %s\n\n" % json.dumps(event).encode()


async def begin_stream(call: Call) -> None:
    await call.read_body()
    await call.write(f"HTTP/1.1 200 OK\r\n{SSE}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    if call.target == "/v1/messages":
        start = {"type": "message_start", "message": {"usage": {"input_tokens": 30, "output_tokens": 1}}}
        await call.write_chunk(b"event: message_start\ndata: %s\n\n" % json.dumps(start).encode())
    else:
        await call.write_chunk(b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n')


async def stream_silently(call: Call) -> None:
    """Twenty pieces of text, two a chunk, and no usage: as vLLM streams unless it is asked for more."""
    await begin_stream(call)
    for number in range(10):
        await call.write_chunk(write_event(call.target, f"a{number}") + write_event(call.target, " b"))
    await call.write_chunk(b"data: [DONE]\n\n")
    await call.write(b"0\r\n\r\n")


async def stream_for_ever(call: Call) -> None:
    """A piece of text now and then, until nobody listens."""
    await begin_stream(call)
    while True:
        await call.write_chunk(write_event(call.target, "a"))
        await asyncio.sleep(0.01)


async def ask(gateway: Gateway, path: str) -> int:
    return (await gateway.client.post(path, json={"model": "m", "stream": True})).status_code


async def leave_after(gateway: Gateway, path: str, pieces: int) -> Exchange:
    """Read so many pieces of text, and go. The exchange once it is over."""
    before = len(gateway.finished)
    async with gateway.client.stream("POST", path, json={"model": "m", "stream": True}) as answer:
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            pieces -= '"a"' in line
            if not pieces:
                break
    await wait_until(lambda: len(gateway.finished) > before)
    return gateway.finished[-1]


def tokens_of(exchange: Exchange) -> int:
    assert exchange.usage is not None
    return exchange.usage.prompt_tokens + exchange.usage.completion_tokens


@pytest.mark.parametrize("path", DIALECTS)
async def test_a_stream_that_tells_no_usage_is_not_free(upstream: Upstream, valkey: Valkey, path: str) -> None:
    upstream.handler = stream_silently
    used = 20 if path == DIALECTS[0] else 50
    async with open_gateways(upstream, valkey, Source(), make_quota("tokens", limit=2 * used)) as (gateway,):
        assert [await ask(gateway, path) for _ in range(3)] == [200, 200, 429]
        usage = gateway.finished[0].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.is_floor) == (used - 20, 20, True)


@pytest.mark.parametrize("path", DIALECTS)
async def test_who_leaves_early_has_used_what_came(upstream: Upstream, valkey: Valkey, path: str) -> None:
    upstream.handler = stream_for_ever
    prompt = 0 if path == DIALECTS[0] else 30
    async with open_gateways(upstream, valkey, Source(), make_quota("tokens", limit=prompt + 12)) as (gateway,):
        left = await leave_after(gateway, path, pieces=12)
        assert left.outcome == "cancelled"
        assert tokens_of(left) >= prompt + 12
        assert await ask(gateway, path) == 429


@pytest.mark.parametrize("quota", [make_quota("tokens", limit=10**6), None])
async def test_the_client_gets_the_same_bytes_whether_its_tokens_are_counted_or_not(
    upstream: Upstream, valkey: Valkey, quota: Any
) -> None:
    upstream.handler = stream_silently
    quotas = [] if quota is None else [quota]
    async with open_gateways(upstream, valkey, Source(), *quotas) as (gateway,):
        answer = await gateway.client.post(DIALECTS[0], json={"model": "m", "stream": True})
    events = [write_event(DIALECTS[0], f"a{number}") + write_event(DIALECTS[0], " b") for number in range(10)]
    assert answer.content.endswith(b"".join(events) + b"data: [DONE]\n\n")
