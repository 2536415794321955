"""What streaming clients are told while their instance starts."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any

import anthropic
import openai
import pytest

from tests.gateway.harness import KEY, Call, Gateway, RawClient, Upstream, make_route, wait_until
from tests.stalls import Stopwatch

pytestmark = pytest.mark.any_database

STOPPED = make_route(sends_loading_state=True)
CHAT: dict[str, Any] = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
CHUNK = {"id": "engine-1", "object": "chat.completion.chunk", "created": 1, "model": "e"}


def sse(event: dict[str, Any], name: str = "") -> bytes:
    return (f"event: {name}\n" if name else "").encode() + b"data: " + json.dumps(event).encode() + b"\n\n"


def delta(**content: Any) -> bytes:
    return sse({**CHUNK, "choices": [{"index": 0, "delta": content, "finish_reason": None}]})


END = sse({**CHUNK, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}) + b"data: [DONE]\n\n"


async def stream_chat(call: Call) -> None:
    await call.read_body()
    body = delta(role="assistant", reasoning_content="hm") + delta(content="Hel") + delta(content="lo") + END
    await call.answer(body, "Content-Type: text/event-stream", "X-Of-The-Engine: yes")


def waiting(gateway: Gateway) -> int:
    line = gateway.app.demand.report().get(1)
    return line.count if line else 0


def chat(gateway: Gateway, path: str = "/v1/chat/completions", **headers: str) -> asyncio.Task[Any]:
    return asyncio.create_task(gateway.client.post(path, json=CHAT, headers=headers))


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


def thoughts(text: str) -> str:
    deltas = [event["choices"][0]["delta"] for event in events(text) if event.get("choices")]
    return "".join(piece.get("reasoning_content") or "" for piece in deltas)


@pytest.mark.timed
async def test_a_stream_tells_of_the_loading_in_complete_chunks_and_goes_on_with_the_engines_own(
    gateway: Gateway, upstream: Upstream
) -> None:
    """llama-swap 9-18, W10: its chunks had no id, object, created, model and index."""
    upstream.handler = stream_chat
    await gateway.set_routes(STOPPED)
    asking = chat(gateway, origin="http://page.example")
    await wait_until(lambda: waiting(gateway) == 1)
    await gateway.set_routes(make_route(state="starting", sends_loading_state=True))
    await asyncio.sleep(2.2)
    await gateway.set_routes(make_route(upstream, sends_loading_state=True))
    answer = await asking
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["access-control-allow-origin"] == "*"
    ours = [event for event in events(answer.text) if event["id"] != "engine-1"]
    assert len({event["id"] for event in ours}) == 1
    for event in ours:
        assert event["object"] == "chat.completion.chunk"
        assert event["model"] == "m"
        assert abs(event["created"] - time.time()) < 60
        (choice,) = event["choices"]
        assert (choice["index"], choice["finish_reason"]) == (0, None)
    told = thoughts(answer.text)
    assert re.fullmatch(r"Loading model m\nstarting, 1 s\nstarting, 2 s\ndone \(2\.\d s\)\n\nhm", told), told
    assert answer.text.endswith(END.decode())
    assert answer.text.count("[DONE]") == 1
    assert gateway.finished[-1].status == 200


async def test_the_engine_is_not_asked_to_compress_what_follows_plain_text(
    gateway: Gateway, upstream: Upstream
) -> None:
    upstream.handler = stream_chat
    await gateway.set_routes(STOPPED)
    asking = chat(gateway, **{"accept-encoding": "gzip"})
    await wait_until(lambda: waiting(gateway) == 1)
    await gateway.set_routes(make_route(upstream, sends_loading_state=True))
    assert (await asking).status_code == 200
    assert "accept-encoding" not in upstream.calls[-1].headers


@pytest.mark.timed
async def test_the_first_word_comes_at_once_and_then_one_a_second_with_the_position(gateway: Gateway) -> None:
    await gateway.set_routes(STOPPED)
    first = asyncio.create_task(gateway.ask())
    await wait_until(lambda: waiting(gateway) == 1)
    async with RawClient(gateway.port) as client:
        watch = Stopwatch()
        client.send("POST", "/v1/chat/completions", body=json.dumps(CHAT).encode())
        await client.read_head()
        await client.reader.readuntil(b"Loading model m")
        assert watch.worked_s < 0.5
        await client.reader.readuntil(b"waiting for its start, position 2 of 2, 1 s")
        first.cancel()
        await wait_until(lambda: waiting(gateway) == 1)
        await client.reader.readuntil(b"waiting for its start, 2 s")
        assert watch.wall_s > 1.9
        assert watch.worked_s < 3


@pytest.mark.parametrize(
    ("body", "headers", "option"),
    [
        ({**CHAT, "stream": False}, {}, True),
        ({"model": "m"}, {}, True),
        ({**CHAT, "stream": "true"}, {}, True),
        (CHAT, {}, False),
        (CHAT, {"x-loading-state": "off"}, True),
        ({**CHAT, "stream": False}, {"x-loading-state": "reasoning"}, True),
    ],
)
async def test_who_does_not_stream_or_does_not_want_it_gets_the_engines_answer_alone(
    gateway: Gateway, upstream: Upstream, body: dict[str, Any], headers: dict[str, str], option: bool
) -> None:
    upstream.handler = stream_chat
    await gateway.set_routes(make_route(sends_loading_state=option))
    asking = asyncio.create_task(gateway.ask(body, headers=headers))
    await wait_until(lambda: waiting(gateway) == 1)
    await gateway.set_routes(make_route(upstream, sends_loading_state=option))
    answer = await asking
    assert answer.headers["x-of-the-engine"] == "yes"
    assert "Loading" not in answer.text


async def test_a_ready_model_is_unaffected(gateway: Gateway, upstream: Upstream) -> None:
    upstream.handler = stream_chat
    await gateway.set_routes(make_route(upstream, sends_loading_state=True))
    answer = await chat(gateway)
    assert "Loading" not in answer.text
    assert answer.headers["x-of-the-engine"] == "yes"


@pytest.mark.timed
async def test_the_header_asks_for_comments_that_no_client_shows(gateway: Gateway, upstream: Upstream) -> None:
    upstream.handler = stream_chat
    await gateway.set_routes(make_route())
    asking = chat(gateway, **{"x-loading-state": "comment"})
    await wait_until(lambda: waiting(gateway) == 1)
    await asyncio.sleep(1.1)
    await gateway.set_routes(make_route(upstream))
    text = (await asking).text
    assert text.startswith(": Loading model m\n\n: waiting for its start, 1 s\n\n: done (1.")
    assert thoughts(text) == "hm"


@pytest.mark.timed
async def test_other_apis_are_kept_alive_in_their_own_way(gateway: Gateway, upstream: Upstream) -> None:
    async def stream(call: Call) -> None:
        await call.read_body()
        await call.answer(sse({"type": "first"}, "first"), "Content-Type: text/event-stream")

    upstream.handler = stream
    await gateway.set_routes(STOPPED)
    messages, responses = chat(gateway, "/v1/messages"), chat(gateway, "/v1/responses")
    await wait_until(lambda: waiting(gateway) == 2)
    await asyncio.sleep(1.1)
    await gateway.set_routes(make_route(upstream, sends_loading_state=True))
    ping = 'event: ping\ndata: {"type":"ping"}\n\n'
    assert (await messages).text == ping * 3 + sse({"type": "first"}, "first").decode()
    text = (await responses).text
    assert text.startswith(": Loading model m\n\n: waiting for its start")
    assert events(text) == [{"type": "first"}]


# What goes wrong afterwards


async def test_a_start_that_fails_is_an_error_event_and_nothing_follows_it(gateway: Gateway) -> None:
    """llama-swap 7.2-W9: raw JSON was appended to the stream."""
    await gateway.set_routes(STOPPED)
    asking = chat(gateway)
    await wait_until(lambda: waiting(gateway) == 1)
    await gateway.set_routes(
        make_route(state="failed", state_changed_at=2.0, reason="no such tensor", sends_loading_state=True)
    )
    answer = await asking
    assert answer.status_code == 200
    *_, last = events(answer.text)
    assert last["error"]["code"] == "instance_start_failed"
    assert "no such tensor" in last["error"]["message"]
    assert answer.text.endswith("}}\n\n")
    assert "[DONE]" not in answer.text
    assert "done (" not in answer.text
    assert (gateway.finished[-1].status, gateway.finished[-1].outcome) == (503, "refused")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/messages", {"type": "error", "error": {"type": "overloaded_error"}}),
        ("/v1/responses", {"type": "error", "code": "instance_start_failed", "param": None, "sequence_number": 0}),
    ],
)
async def test_other_apis_have_error_events_of_their_own(gateway: Gateway, path: str, expected: dict[str, Any]) -> None:
    await gateway.set_routes(STOPPED)
    asking = chat(gateway, path)
    await wait_until(lambda: waiting(gateway) == 1)
    await gateway.set_routes(make_route(state="failed", state_changed_at=2.0, reason="no such tensor"))
    text = (await asking).text
    last = events(text)[-1]
    assert "no such tensor" in (last.get("message") or last["error"].pop("message"))
    last.pop("message", None)
    assert last == expected
    assert "event: error\n" in text


@pytest.mark.parametrize(
    ("status", "answer", "expected"),
    [
        (
            "400 Bad Request",
            (b'{"error":{"message":"too long","type":"exceed_context_size_error","code":400}}', "application/json"),
            ("too long", "exceed_context_size_error"),
        ),
        ("500 Oops", (b'{"error":"broken"}', "application/json"), ("broken", "server_error")),
        ("404 Not Found", (b"nothing here", "text/plain"), ("status 404: nothing here", "invalid_request_error")),
        ("200 OK", (b'{"choices":[]}', "application/json"), ("not with a stream", "server_error")),
        ("200 OK", (b"\x1f\x8b", "text/event-stream\r\nContent-Encoding: gzip"), ("not with a stream", "server_error")),
    ],
)
async def test_an_engines_refusal_becomes_an_error_event(
    gateway: Gateway, upstream: Upstream, status: str, answer: tuple[bytes, str], expected: tuple[str, str]
) -> None:
    async def refuse(call: Call) -> None:
        await call.read_body()
        await call.answer(answer[0], f"Content-Type: {answer[1]}", status=status)

    upstream.handler = refuse
    await gateway.set_routes(STOPPED)
    asking = chat(gateway)
    await wait_until(lambda: waiting(gateway) == 1)
    await gateway.set_routes(make_route(upstream, sends_loading_state=True))
    text = (await asking).text
    error = events(text)[-1]["error"]
    assert expected[0] in error["message"]
    assert error["type"] == expected[1]
    assert "[DONE]" not in text


async def test_an_engine_that_breaks_off_breaks_the_stream_off_too(gateway: Gateway, upstream: Upstream) -> None:
    async def break_off(call: Call) -> None:
        await call.read_body()
        await call.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        await call.write_chunk(delta(content="Hel"))
        call.writer.close()

    upstream.handler = break_off
    await gateway.set_routes(STOPPED)
    async with RawClient(gateway.port) as client:
        client.send("POST", "/v1/chat/completions", body=json.dumps(CHAT).encode())
        await wait_until(lambda: waiting(gateway) == 1)
        await gateway.set_routes(make_route(upstream, sends_loading_state=True))
        text = await client.reader.read(-1)
    assert b"Hel" in text
    assert not text.endswith(b"0\r\n\r\n")


async def test_too_long_a_line_is_still_a_plain_429(gateway: Gateway) -> None:
    await gateway.set_routes(make_route(sends_loading_state=True, queue_limit=1))
    asking = chat(gateway)
    await wait_until(lambda: waiting(gateway) == 1)
    answer = await chat(gateway)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")
    asking.cancel()


async def test_a_client_that_leaves_during_the_loading_leaves_the_line_and_no_task(gateway: Gateway) -> None:
    await gateway.set_routes(STOPPED)
    async with RawClient(gateway.port) as client:
        client.send("POST", "/v1/chat/completions", body=json.dumps(CHAT).encode())
        await client.read_head()
    await wait_until(lambda: waiting(gateway) == 0)
    await wait_until(lambda: gateway.finished and gateway.finished[-1].outcome == "cancelled")
    assert not any(task.get_name() == "gateway-loading" for task in asyncio.all_tasks())


# The official clients


async def test_the_openai_client_reads_the_stream_and_raises_for_the_error(
    gateway: Gateway, upstream: Upstream
) -> None:
    upstream.handler = stream_chat
    client = openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key=KEY, max_retries=0)

    async def complete() -> Any:
        async with client.chat.completions.stream(model="m", messages=CHAT["messages"]) as stream:
            return await stream.get_final_completion()

    await gateway.set_routes(STOPPED)
    asking = asyncio.create_task(complete())
    await wait_until(lambda: waiting(gateway) == 1)
    await asyncio.sleep(1.1)
    await gateway.set_routes(make_route(upstream, sends_loading_state=True))
    message = (await asking).choices[0].message
    assert (message.role, message.content) == ("assistant", "Hello")
    assert message.reasoning_content.startswith("Loading model m\n")
    assert message.reasoning_content.endswith("hm")

    await gateway.set_routes(STOPPED)
    asking = asyncio.create_task(complete())
    await wait_until(lambda: waiting(gateway) == 1)
    await gateway.set_routes(make_route(state="failed", state_changed_at=2.0, reason="no such tensor"))
    with pytest.raises(openai.APIError, match="no such tensor"):
        await asking
    await client.close()


async def test_the_anthropic_client_skips_the_pings_and_raises_for_the_error(
    gateway: Gateway, upstream: Upstream
) -> None:
    usage = {"input_tokens": 1, "output_tokens": 1}
    told: list[dict[str, Any]] = [
        {
            "type": "message_start",
            "message": {
                "id": "1",
                "type": "message",
                "role": "assistant",
                "model": "m",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": usage,
            },
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    ]

    async def stream_message(call: Call) -> None:
        await call.read_body()
        body = b"".join(sse(event, event["type"]) for event in told)
        await call.answer(body, "Content-Type: text/event-stream")

    upstream.handler = stream_message
    client = anthropic.AsyncAnthropic(base_url=f"http://127.0.0.1:{gateway.port}", api_key=KEY, max_retries=0)

    async def complete() -> str:
        async with client.messages.stream(model="m", max_tokens=9, messages=CHAT["messages"]) as stream:
            return await stream.get_final_text()

    await gateway.set_routes(STOPPED)
    asking = asyncio.create_task(complete())
    await wait_until(lambda: waiting(gateway) == 1)
    await asyncio.sleep(1.1)
    await gateway.set_routes(make_route(upstream, sends_loading_state=True))
    assert await asking == "Hello"

    await gateway.set_routes(STOPPED)
    asking = asyncio.create_task(complete())
    await wait_until(lambda: waiting(gateway) == 1)
    await gateway.set_routes(make_route(state="failed", state_changed_at=2.0, reason="no such tensor"))
    with pytest.raises(anthropic.APIStatusError, match="no such tensor"):
        await asking
    await client.close()


async def test_the_responses_client_gets_an_error_event(gateway: Gateway) -> None:
    client = openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key=KEY, max_retries=0)
    await gateway.set_routes(STOPPED)

    async def read() -> list[Any]:
        return [event async for event in await client.responses.create(model="m", input="hello", stream=True)]

    asking = asyncio.create_task(read())
    await wait_until(lambda: waiting(gateway) == 1)
    await gateway.set_routes(make_route(state="failed", state_changed_at=2.0, reason="no such tensor"))
    (event,) = await asking
    assert event.type == "error"
    assert "no such tensor" in event.message
    await client.close()
