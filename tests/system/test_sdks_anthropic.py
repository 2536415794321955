"""Anthropic's Python library against Corral before a real llama-server, which speaks the Messages API itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.system.sdks import GATES, LOWEST, QUESTION, TOOL, Sdks

pytestmark = pytest.mark.engine

REQUEST: dict[str, Any] = {"model": "llama", "max_tokens": 8, "messages": QUESTION, "extra_body": {"temperature": 0}}
CALL: dict[str, Any] = {
    "model": "tools",
    "max_tokens": 400,
    "messages": QUESTION,
    "tools": [{"name": TOOL, "description": "Opens a gate.", "input_schema": GATES}],
    "tool_choice": {"type": "any"},
    "extra_body": LOWEST,
}


@pytest.fixture
def client(sdks: Sdks) -> Iterator[anthropic.Anthropic]:
    with sdks.anthropic() as client:
        yield client


def read_text(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def test_a_streamed_message_adds_up_to_the_plain_one(client: anthropic.Anthropic) -> None:
    plain = client.messages.create(**REQUEST)
    with client.messages.stream(**REQUEST) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert read_text(plain).strip()
    assert "".join(pieces) == read_text(final) == read_text(plain)
    assert len(pieces) == plain.usage.output_tokens == final.usage.output_tokens == 8
    assert plain.stop_reason == final.stop_reason == "max_tokens"


def test_raw_events_come_in_order(client: anthropic.Anthropic) -> None:
    with client.messages.create(**REQUEST, stream=True) as stream:
        kinds = [event.type for event in stream]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]


async def test_async_clients_get_the_same_text_at_once_and_in_streams(sdks: Sdks) -> None:
    async with sdks.async_anthropic() as client:

        async def stream() -> str:
            async with client.messages.stream(**REQUEST) as stream:
                return await stream.get_final_text()

        plain, *streamed = await asyncio.gather(client.messages.create(**REQUEST), stream(), stream())
    assert streamed == [read_text(plain)] * 2


def test_a_required_tool_call_is_parsed_whole_and_from_a_stream(client: anthropic.Anthropic) -> None:
    plain = client.messages.create(**CALL)
    with client.messages.stream(**CALL) as stream:
        streamed = stream.get_final_message()
    for message in (plain, streamed):
        (call,) = [block for block in message.content if block.type == "tool_use"]
        assert call.name == TOOL
        assert call.input["gate"] in ("north", "south")
        assert message.stop_reason == "tool_use"


def test_tokens_are_counted_as_the_answer_counts_them(client: anthropic.Anthropic) -> None:
    counted = client.messages.count_tokens(model="llama", messages=QUESTION).input_tokens
    usage = client.messages.create(**REQUEST).usage
    assert counted == usage.input_tokens + (usage.cache_read_input_tokens or 0) > 0


def test_models_are_listed_and_found_one_by_one(sdks: Sdks, client: anthropic.Anthropic) -> None:
    listed = {model.id: model for model in client.models.list()}
    assert {"llama", "tools", "embedder", "mlx", "fake"} <= set(listed)
    found = client.models.retrieve("llama")
    assert (found.type, found.id, found.display_name) == ("model", "llama", "llama")
    assert found.created_at == listed["llama"].created_at
    assert found.created_at.year >= 2020
    assert found._request_id
    with sdks.anthropic(api_key=sdks.narrow_key) as narrow:
        assert [model.id for model in narrow.models.list()] == ["fake"]


async def test_async_clients_list_models(sdks: Sdks) -> None:
    async with sdks.async_anthropic() as client:
        assert "mlx" in [model.id async for model in client.models.list()]


def test_the_key_may_come_in_either_header(sdks: Sdks) -> None:
    for headers in ({"x-api-key": sdks.key}, {"Authorization": f"bearer {sdks.key}"}):
        with sdks.anthropic(api_key=None, auth_token=None, default_headers=headers) as client:
            assert read_text(client.messages.create(**REQUEST))


def test_every_answer_carries_its_request_id(sdks: Sdks, client: anthropic.Anthropic) -> None:
    message = client.messages.create(**REQUEST)
    raw = client.messages.with_raw_response.create(**REQUEST)
    assert raw.headers["request-id"] == raw.headers["x-request-id"] == raw.request_id != message._request_id
    assert sdks.find_record(message._request_id)["path"] == "/v1/messages"
    with pytest.raises(anthropic.NotFoundError) as refusal:
        client.models.retrieve("nobody")
    assert refusal.value.request_id


def test_an_engine_without_the_messages_api_says_so(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(**{**REQUEST, "model": "mlx"})
