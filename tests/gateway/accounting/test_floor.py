"""What is counted of a stream for somebody whose tokens are limited, where the engine tells too little."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.accounting import UsageReader
from gateway.accounting.reader import BOUND
from gateway.accounting.usage import Usage
from gateway.asgi import Headers
from tests.gateway.accounting.test_reader import CHAT, JSON, SSE, STREAMS, USAGE, stream

pytestmark = pytest.mark.any_database


def count(*pieces: bytes, headers: Headers = SSE) -> Usage | None:
    reader = UsageReader.for_answer(CHAT, headers, counts_text=True)
    assert reader is not None
    for piece in pieces:
        reader.feed(piece)
    return reader.finish()


def chunk(**delta: Any) -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


def part(kind: str, **delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": kind, **delta}}


CALL = {"index": 0, "function": {"arguments": '{"a": "\\"content\\": \\"x\\""}'}}
HEAD = {"type": "message_start", "message": {"content": [], "usage": {"input_tokens": 7, "output_tokens": 1}}}
END = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}
STARTED = {"type": "response.created", "response": {"instructions": "be brief", "text": {"format": {"type": "text"}}}}
DONE = {"type": "response.output_text.done", "text": "a b", "delta": ""}
WHOLE = {"type": "response.output_item.done", "item": {"content": [{"type": "output_text", "text": "a b"}]}}
FOUR = [chunk(content=text) for text in ("a", " b", '"', "\\")]
UNTOLD: dict[str, tuple[Sequence[Any], int]] = {
    "vllm": ([chunk(role="assistant", content=""), *FOUR, chunk(), "[DONE]"], 4),
    "a role only": ([chunk(role="assistant", content=None), chunk()], 0),
    "reasoning": ([chunk(reasoning_content="so"), chunk(reasoning="hm"), chunk(content="a", reasoning=None)], 3),
    "a refusal": ([chunk(refusal="no")], 1),
    "a tool": ([chunk(tool_calls=[{"function": {"name": "f", "arguments": ""}}]), chunk(tool_calls=[CALL])], 1),
    "nulls for usage": ([{**event, "usage": None} for event in FOUR], 4),
    "completions": ([{"choices": [{"index": 0, "text": "a"}]}, {"choices": [{"index": 0, "text": ""}]}], 1),
    "a native answer": ([{"content": "a", "stop": False}, {"content": "", "stop": True}], 1),
    "messages": ([part("text_delta", text="a"), part("thinking_delta", thinking="b"), {"type": "message_stop"}], 2),
    "a tool in messages": ([part("input_json_delta", partial_json=text) for text in ('{"a"', "")], 1),
    "responses": ([STARTED, *[{"type": "response.output_text.delta", "delta": "a"}] * 3, DONE, WHOLE], 3),
    "words that look like it": ([chunk(content=""), {"note": '"content": "x"'}, {"content": ["x"], "delta": {}}], 0),
    "an error": ([chunk(content="a"), {"error": {"message": "out of memory"}}], 1),
}  # fmt: skip


@pytest.mark.parametrize("name", UNTOLD)
def test_each_event_with_text_is_a_token_where_nothing_is_told(name: str) -> None:
    events, tokens = UNTOLD[name]
    expected = Usage(completion_tokens=tokens, is_floor=True) if tokens else None
    text = stream(*events)
    assert count(text) == expected
    assert count(text.replace(b"\n", b"\r\n")) == expected
    assert count(*(bytes([byte]) for byte in text)) == expected
    tight = b"".join(
        b"data:%s\n\n" % (json.dumps(event, separators=(",", ":")).encode() if isinstance(event, dict) else b"[DONE]")
        for event in events
    )
    assert count(tight) == expected


def test_the_floor_counts_in_a_compressed_stream_too() -> None:
    headers = [*SSE, (b"content-encoding", b"gzip")]
    assert count(gzip.compress(stream(*FOUR)), headers=headers) == Usage(completion_tokens=4, is_floor=True)


@pytest.mark.parametrize("name", [name for name, (_, usage) in STREAMS.items() if usage is not None])
@given(cuts=st.lists(st.integers(0, 5000), max_size=6))
def test_what_is_told_at_the_end_is_believed(name: str, cuts: list[int]) -> None:
    text, usage = STREAMS[name]
    places = [0, *sorted(cuts), len(text)]
    assert count(*(text[a:b] for a, b in pairwise(places))) == usage


def test_more_events_than_tokens_do_not_outdo_what_is_told() -> None:
    """An engine may send the text of one token in several events, as llama.cpp does for tools."""
    assert count(stream(*FOUR, {"choices": [], "usage": {**USAGE, "completion_tokens": 2}})) == Usage(20, 2, 8)


def test_who_leaves_a_stream_of_messages_before_its_end_has_used_what_came() -> None:
    pieces = [part("text_delta", text="a")] * 9
    assert count(stream(HEAD, *pieces[:5])) == Usage(7, 5, is_floor=True)
    assert count(stream(HEAD, *pieces, END)) == Usage(7, 9)
    assert count(stream(HEAD)) == Usage(7, 1)


def test_who_leaves_a_stream_that_tells_all_along_has_used_what_it_told_last() -> None:
    told = [{**chunk(content="a"), "usage": {"prompt_tokens": 7, "completion_tokens": 3 * n}} for n in range(1, 4)]
    assert count(stream(*told)) == Usage(7, 9)
    assert count(stream(*told, *FOUR)) == Usage(7, 9)
    assert count(stream(told[0], *FOUR)) == Usage(7, 4, is_floor=True)


def test_an_event_that_is_too_long_to_keep_counts_once() -> None:
    text = stream(chunk(content="x" * 2 * BOUND), *FOUR)
    pieces = [text[start : start + 65536] for start in range(0, len(text), 65536)]
    assert count(*pieces) == Usage(completion_tokens=5, is_floor=True)


def test_an_answer_in_one_piece_counts_only_what_it_tells() -> None:
    assert count(b'{"choices":[{"message":{"content":"a b c"}}]}', headers=JSON) is None
