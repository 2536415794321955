"""OpenAI's Python library against Corral before a real llama-server and a real mlx_lm.server."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import struct
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from tests.system.sdks import GATES, GREEDY, LOWEST, QUESTION, TOOL, Sdks

pytestmark = pytest.mark.engine

ENGINES = ("llama", "mlx")
GATE_TOOL: Any = {"type": "function", "function": {"name": TOOL, "description": "Opens a gate.", "parameters": GATES}}
CALL: dict[str, Any] = {
    "messages": QUESTION,
    "tools": [GATE_TOOL],
    "tool_choice": "required",
    "max_tokens": 400,
    "extra_body": LOWEST,
}


@pytest.fixture
def client(sdks: Sdks) -> Iterator[openai.OpenAI]:
    with sdks.openai() as client:
        yield client


def join(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_streamed_chat_adds_up_to_the_plain_one_with_the_same_usage(client: openai.OpenAI, engine: str) -> None:
    plain = client.chat.completions.create(model=engine, messages=QUESTION, max_tokens=12, **GREEDY)
    text = plain.choices[0].message.content
    assert text
    assert text.strip()
    assert plain.choices[0].finish_reason == "length"
    options: Any = {"include_usage": True}
    with client.chat.completions.create(
        model=engine, messages=QUESTION, max_tokens=12, stream=True, stream_options=options, **GREEDY
    ) as stream:
        assert stream.response.headers["x-accel-buffering"] == "no"
        chunks = list(stream)
    assert join(chunks) == text
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == "length"
    assert chunks[-1].usage
    assert plain.usage
    assert plain.usage.completion_tokens == chunks[-1].usage.completion_tokens == 12
    assert plain.usage.prompt_tokens == chunks[-1].usage.prompt_tokens > 0


def test_the_stream_helper_accumulates_the_answer(client: openai.OpenAI) -> None:
    request: dict[str, Any] = {"model": "llama", "messages": QUESTION, "max_tokens": 12, **GREEDY}
    words = (client.chat.completions.create(**request).choices[0].message.content or "").split()
    with client.chat.completions.stream(**request, stop=words[2]) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert (final.choices[0].message.content or "").split() == words[:2]
    assert "content.delta" in kinds


@pytest.mark.parametrize("engine", ENGINES)
def test_completions_stream_what_they_answer_in_one_piece(client: openai.OpenAI, engine: str) -> None:
    plain = client.completions.create(model=engine, prompt="cattle graze", max_tokens=6, **GREEDY)
    pieces = client.completions.create(model=engine, prompt="cattle graze", max_tokens=6, stream=True, **GREEDY)
    assert plain.choices[0].text.strip()
    assert "".join(piece.choices[0].text for piece in pieces if piece.choices) == plain.choices[0].text


@pytest.mark.parametrize("engine", ENGINES)
async def test_async_clients_chat_at_once_and_in_streams(sdks: Sdks, engine: str) -> None:
    async with sdks.async_openai() as client:

        async def chat() -> str:
            answer = await client.chat.completions.create(model=engine, messages=QUESTION, max_tokens=6, **GREEDY)
            return answer.choices[0].message.content or ""

        async def stream() -> str:
            chunks = await client.chat.completions.create(
                model=engine, messages=QUESTION, max_tokens=6, stream=True, **GREEDY
            )
            return join([chunk async for chunk in chunks])

        texts = await asyncio.gather(chat(), stream(), chat(), stream())
    assert len(set(texts)) == 1
    assert texts[0].strip()


def test_a_required_tool_call_is_parsed_whole_and_from_a_stream(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="tools", **CALL)
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == TOOL
    assert json.loads(call.function.arguments)["gate"] in ("north", "south")
    assert answer.choices[0].finish_reason == "tool_calls"
    with client.chat.completions.stream(model="tools", **CALL) as stream:
        (streamed,) = stream.get_final_completion().choices[0].message.tool_calls or []
    assert (streamed.function.name, streamed.function.arguments) == (call.function.name, call.function.arguments)


@pytest.mark.parametrize("engine", ENGINES)
def test_tools_that_a_model_does_not_use_leave_a_plain_answer(client: openai.OpenAI, engine: str) -> None:
    answer = client.chat.completions.create(
        model=engine, messages=QUESTION, tools=[GATE_TOOL], tool_choice="auto", max_tokens=6, **GREEDY
    )
    assert answer.choices[0].message.content
    assert not answer.choices[0].message.tool_calls


def test_a_request_with_tools_reaches_the_engine_byte_for_byte(sdks: Sdks) -> None:
    sent: list[bytes] = []
    http_client = openai.DefaultHttpxClient(event_hooks={"request": [lambda request: sent.append(request.read())]})
    with sdks.openai(base_url=f"{sdks.origin}/upstream/fake/echo", http_client=http_client) as client:
        raw: Any = client.chat.completions.with_raw_response.create(model="fake", **CALL)
    echo = raw.http_response.json()
    assert echo["body"].encode() == sent[0]
    assert json.loads(sent[0])["tool_choice"] == "required"
    assert sdks.key not in str(echo["headers"])


def test_embeddings_come_in_order_as_base64_and_as_numbers(client: openai.OpenAI) -> None:
    texts = ["cattle graze near old fences", "wind from north", "cool water"]
    packed = client.embeddings.create(model="embedder", input=texts)  # the library asks for base64
    numbers = client.embeddings.create(model="embedder", input=texts, encoding_format="float")
    assert [entry.index for entry in packed.data] == [0, 1, 2]
    for entry, other in zip(packed.data, numbers.data, strict=True):
        assert entry.embedding == pytest.approx(other.embedding, abs=1e-6)
    alone = client.embeddings.create(model="embedder", input=texts[1])
    assert alone.data[0].embedding == pytest.approx(packed.data[1].embedding, abs=1e-3)
    assert packed.data[0].embedding != pytest.approx(packed.data[1].embedding, abs=1e-2)
    assert packed.usage.prompt_tokens > 0
    raw: Any = client.embeddings.with_raw_response.create(model="embedder", input=texts[1], encoding_format="base64")
    content = base64.b64decode(raw.http_response.json()["data"][0]["embedding"])
    assert struct.unpack(f"<{len(content) // 4}f", content) == pytest.approx(alone.data[0].embedding, abs=1e-6)


async def test_async_embeddings_of_many_requests_belong_to_their_texts(sdks: Sdks) -> None:
    texts = [f"cattle {'graze ' * count}" for count in range(1, 9)]
    async with sdks.async_openai() as client:
        together = await client.embeddings.create(model="embedder", input=texts)
        asking = [client.embeddings.create(model="embedder", input=text) for text in texts]
        for entry, answer in zip(together.data, await asyncio.gather(*asking), strict=True):
            assert answer.data[0].embedding == pytest.approx(entry.embedding, abs=1e-3)


def test_models_are_listed_and_found_one_by_one(sdks: Sdks, client: openai.OpenAI) -> None:
    listed = {model.id: model for model in client.models.list()}
    assert {"llama", "tools", "embedder", "mlx", "fake"} <= set(listed)
    found = client.models.retrieve("llama")
    assert (found.id, found.object, found.created) == ("llama", "model", listed["llama"].created)
    with sdks.openai(api_key=sdks.narrow_key) as narrow:
        assert [model.id for model in narrow.models.list()] == ["fake"]


async def test_async_clients_list_models(sdks: Sdks) -> None:
    async with sdks.async_openai() as client:
        assert "mlx" in [model.id async for model in client.models.list()]


def test_responses_come_whole_and_as_events(client: openai.OpenAI) -> None:
    question = "What do riders watch?"
    whole = client.responses.create(model="llama", input=question, max_output_tokens=6, temperature=0)
    assert whole.output_text.strip()
    assert whole.usage
    assert whole.usage.output_tokens == 6
    with client.responses.create(
        model="llama", input=question, max_output_tokens=6, temperature=0, stream=True
    ) as stream:
        events = list(stream)
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == whole.output_text == events[-1].response.output_text


async def test_async_responses_stream(sdks: Sdks) -> None:
    async with sdks.async_openai() as client:
        stream = await client.responses.create(
            model="llama", input="water", max_output_tokens=4, temperature=0, stream=True
        )
        assert [event.type async for event in stream][-1] == "response.completed"


def test_an_uploads_form_reaches_the_engine_byte_for_byte(sdks: Sdks) -> None:
    sent: list[bytes] = []
    http_client = openai.DefaultHttpxClient(event_hooks={"request": [lambda request: sent.append(request.read())]})
    sound = bytes(range(256)) * 8192  # comes before the field `model`
    with sdks.openai(http_client=http_client) as client:
        answer = client.audio.transcriptions.create(model="fake", file=("cattle.wav", sound), language="en")
    (form,) = sent
    assert sound in form
    assert answer.text == f"{len(form)} {hashlib.sha256(form).hexdigest()}"


async def test_async_uploads_arrive_too(sdks: Sdks) -> None:
    async with sdks.async_openai() as client:
        answer = await client.audio.transcriptions.create(model="fake", file=("a.wav", b"x" * 100_000))
    assert int(answer.text.split()[0]) > 100_000


def test_an_engine_without_ears_says_so_itself(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError, match="audio") as refusal:
        client.audio.transcriptions.create(model="llama", file=("a.wav", b"RIFF"))
    assert refusal.value.status_code == 501


def test_every_answer_carries_its_request_id(sdks: Sdks, client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="fake", messages=QUESTION)
    raw = client.chat.completions.with_raw_response.create(model="fake", messages=QUESTION)
    assert answer._request_id
    assert raw.headers["x-request-id"] == raw.request_id
    assert raw.request_id not in (None, answer._request_id)
    assert sdks.find_record(answer._request_id)["model"] == "fake"
    with pytest.raises(openai.NotFoundError) as refusal:
        client.chat.completions.create(model="nobody", messages=QUESTION)
    assert sdks.find_record(refusal.value.request_id)["status"] == 404
