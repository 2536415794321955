"""The tokens that the libraries are told are the ones that Corral records, whatever the engine and the API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.system.sdks import QUESTION, Sdks

pytestmark = pytest.mark.engine

SUMS = ("requests", "prompt_tokens", "completion_tokens")


def chat(sdks: Sdks, engine: str) -> tuple[int, int, str | None]:
    with sdks.openai() as client:
        answer = client.chat.completions.create(model=engine, messages=QUESTION, max_tokens=5)
        assert answer.usage
        return answer.usage.prompt_tokens, answer.usage.completion_tokens, answer._request_id


def stream_chat(sdks: Sdks, engine: str) -> tuple[int, int, str | None]:
    options: Any = {"include_usage": True}
    with (
        sdks.openai() as client,
        client.chat.completions.create(
            model=engine, messages=QUESTION, max_tokens=6, stream=True, stream_options=options
        ) as stream,
    ):
        usage = list(stream)[-1].usage
        assert usage
        return usage.prompt_tokens, usage.completion_tokens, stream.response.headers["x-request-id"]


def complete(sdks: Sdks, engine: str) -> tuple[int, int, str | None]:
    with sdks.openai() as client:
        answer = client.completions.create(model=engine, prompt="cattle", max_tokens=7)
        assert answer.usage
        return answer.usage.prompt_tokens, answer.usage.completion_tokens, answer._request_id


def embed(sdks: Sdks, engine: str) -> tuple[int, int, str | None]:
    with sdks.openai() as client:
        raw = client.embeddings.with_raw_response.create(model=engine, input=["cattle", "clouds drift"])
        return raw.parse().usage.prompt_tokens, 0, raw.request_id


def respond(sdks: Sdks, engine: str) -> tuple[int, int, str | None]:
    with sdks.openai() as client:
        answer = client.responses.create(model=engine, input="cattle", max_output_tokens=8)
        assert answer.usage
        return answer.usage.input_tokens, answer.usage.output_tokens, answer._request_id


def stream_response(sdks: Sdks, engine: str) -> tuple[int, int, str | None]:
    with (
        sdks.openai() as client,
        client.responses.create(model=engine, input="cattle", max_output_tokens=9, stream=True) as stream,
    ):
        last: Any = list(stream)[-1]
        usage = last.response.usage
        return usage.input_tokens, usage.output_tokens, stream.response.headers["x-request-id"]


def write(sdks: Sdks, engine: str) -> tuple[int, int, str | None]:
    with sdks.anthropic() as client:
        message = client.messages.create(model=engine, messages=QUESTION, max_tokens=10)
        prompt = message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0)
        return prompt, message.usage.output_tokens, message._request_id


def stream_message(sdks: Sdks, engine: str) -> tuple[int, int, str | None]:
    with (
        sdks.anthropic() as client,
        client.messages.stream(model=engine, messages=QUESTION, max_tokens=11) as stream,
    ):
        usage = stream.get_final_message().usage
        return usage.input_tokens + (usage.cache_read_input_tokens or 0), usage.output_tokens, stream.request_id


Call = Callable[[Sdks, str], tuple[int, int, "str | None"]]
CALLS: dict[str, list[Call]] = {
    "llama": [chat, stream_chat, complete, respond, stream_response, write, stream_message],
    "mlx": [chat, stream_chat, complete],
    "embedder": [embed],
}


def sum_up(sdks: Sdks, engine: str) -> dict[str, int]:
    answer = sdks.stack.api.get("/api/v1/usage", params={"instance": engine})
    assert answer.status_code == 200, answer.text
    (sums,) = answer.json()
    return {name: sums[name] for name in SUMS}


@pytest.mark.parametrize("engine", CALLS)
def test_rows_and_sums_hold_the_tokens_that_the_libraries_were_told(sdks: Sdks, engine: str) -> None:
    calls = CALLS[engine]
    sdks.find_record(calls[0](sdks, engine)[2])  # what was asked for before has been written with it
    expected = sum_up(sdks, engine)
    told = [call(sdks, engine) for call in calls]
    for call, (prompt, completion, request_id) in zip(calls, told, strict=True):
        assert prompt > 0
        record = sdks.find_record(request_id)
        found = (record["prompt_tokens"], record["completion_tokens"], record["streamed"], record["instance"])
        assert found == (prompt, completion, call.__name__.startswith("stream"), engine), call.__name__
        assert (record["status"], record["outcome"], record["key"].startswith("sdk")) == (200, "answered", True)
        for name, count in zip(SUMS, (1, prompt, completion), strict=True):
            expected[name] += count
    assert sum_up(sdks, engine) == expected


def test_a_llama_server_tells_its_tokens_at_a_streams_end_even_unasked(sdks: Sdks) -> None:
    with (
        sdks.openai() as client,
        client.chat.completions.create(model="llama", messages=QUESTION, max_tokens=6, stream=True) as stream,
    ):
        assert not any(chunk.usage for chunk in stream)
    record = sdks.find_record(stream.response.headers["x-request-id"])
    assert (record["completion_tokens"], record["streamed"]) == (6, True)
    assert record["prompt_tokens"] > 0
    assert record["tokens_per_second"] > 0
