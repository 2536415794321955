"""What is read from the answers of engines, however they are cut, compressed or built."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tracemalloc
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.accounting.reader import BOUND, JsonReader, UsageReader
from gateway.accounting.usage import Usage
from gateway.asgi import Headers

pytestmark = pytest.mark.any_database

JSON: Headers = [(b"server", b"llama.cpp"), (b"content-type", b"application/json; charset=utf-8")]
SSE: Headers = [(b"content-type", b"text/event-stream")]
CHAT = b"/v1/chat/completions"
TIMINGS = {"cache_n": 8, "prompt_n": 12, "prompt_per_second": 400.5, "predicted_n": 50, "predicted_per_second": 100.25}
USAGE = {
    "completion_tokens": 50,
    "prompt_tokens": 20,
    "total_tokens": 70,
    "prompt_tokens_details": {"cached_tokens": 8},
}
CACHING = {"input_tokens": 5, "cache_creation_input_tokens": 7, "cache_read_input_tokens": 8}
RESPONSES_USAGE = {"input_tokens": 20, "input_tokens_details": {"cached_tokens": 8}, "output_tokens": 50}
FULL = Usage(20, 50, 8, 400.5, 100.25)
COUNTS = Usage(20, 50, 8)


def read(*pieces: bytes, headers: Headers = JSON, path: bytes = CHAT, status: int = 200) -> Usage | None:
    reader = UsageReader.for_answer(path, headers, status=status)
    assert reader is not None
    for piece in pieces:
        reader.feed(piece)
    return reader.finish()


def read_json(value: Any, **options: Any) -> Usage | None:
    return read(json.dumps(value).encode(), **options)


def stream(*events: Any, end: str = "\n") -> bytes:
    lines = [f"data: {event if isinstance(event, str) else json.dumps(event)}{end}{end}" for event in events]
    return "".join(lines).encode()


@pytest.mark.parametrize(
    ("answer", "usage"),
    [
        ({"choices": [], "usage": USAGE, "timings": TIMINGS}, FULL),
        ({"timings": TIMINGS, "choices": [], "usage": USAGE}, FULL),
        ({"content": "native", "timings": TIMINGS}, FULL),
        ({"choices": [], "usage": USAGE}, COUNTS),
        ({"choices": [], "usage": {**USAGE, "prompt_tokens_details": None}}, Usage(20, 50)),
        ({"choices": [], "usage": {**USAGE, "prompt_tokens_details": None}, "timings": TIMINGS}, FULL),
        # Anthropic: what came from the cache, or went into it, is not among input_tokens
        ({"type": "message", "usage": {"input_tokens": 12, "output_tokens": 50, "cache_read_input_tokens": 8}}, COUNTS),
        ({"usage": {**CACHING, "output_tokens": 50}}, COUNTS),
        # Responses: input_tokens are all
        ({"object": "response", "usage": RESPONSES_USAGE}, COUNTS),
        # vLLM's own measurements win
        (
            {"usage": USAGE, "metrics": {"time_to_first_token_ms": 24, "mean_itl_ms": 10}},
            Usage(20, 50, 8, 500.0, 100.0),
        ),
        ({"usage": USAGE, "metrics": {"time_to_first_token_ms": 0, "mean_itl_ms": None}}, COUNTS),
        # Embeddings, rerank
        ({"data": [{"embedding": [0.5]}], "usage": {"prompt_tokens": 20, "total_tokens": 20}}, Usage(20)),
        ({"results": [], "usage": {"total_tokens": 20}}, Usage(20)),
        # A list: one element for each prompt
        ([{"timings": TIMINGS}], FULL),
        ([{"timings": TIMINGS}, {"timings": TIMINGS}], Usage(40, 100, 16, 400.5, 100.25)),
        # Nothing is told
        ({"choices": []}, None),
        ({"usage": None, "timings": None}, None),
        ([], None),
        ([0.5, 0.5], None),
        ("usage", None),
        # What an engine writes wrongly costs that number only
        ({"usage": {**USAGE, "prompt_tokens_details": []}, "message": "a text", "response": 5}, Usage(20, 50)),
        ({"usage": {**USAGE, "completion_tokens": "fifty", "prompt_tokens": True}}, Usage(70, 0, 8)),
        ({"usage": {"prompt_tokens": 20.0, "completion_tokens": -1}, "timings": {"predicted_n": 50}}, Usage(20, 50)),
        ({"usage": {"prompt_tokens": 10**30, "completion_tokens": 10**400}}, Usage(0, 0)),
        ({"usage": {"prompt_tokens": 1e30}}, Usage(2**31 - 1)),
        # What only looks like it
        ({"content": [{"type": "tool_use", "input": {"usage": {"prompt_tokens": 9}}}], "usage": USAGE}, COUNTS),
        ({"usage": USAGE, "content": [{"type": "tool_use", "input": {"usage": {"prompt_tokens": 9}}}]}, COUNTS),
        ({"content": '{"usage":{"prompt_tokens":9}}'}, None),
        ({"extra": {"usage": {"prompt_tokens": 9}}}, None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [0, 5_000, BOUND - 3_000])
def test_usage_means_the_same_whatever_the_engine_and_the_api(answer: Any, usage: Usage | None, size: int) -> None:
    if usage == Usage(0, 0):  # too large to be true
        usage = read_json(answer)
        assert usage is not None
        assert max(usage.prompt_tokens, usage.completion_tokens) <= 2**31 - 1
        return
    if isinstance(answer, dict):
        answer = {"padding": "x" * size, **answer}
    elif isinstance(answer, list) and answer and isinstance(answer[0], dict):
        answer = [{"padding": "x" * size, **answer[0]}, *answer[1:]]
    assert read_json(answer) == usage
    assert read(json.dumps(answer, indent=2).encode()) == usage


@pytest.mark.parametrize("piece", [1000, 65536, 10**9])
@pytest.mark.parametrize("where", ["first", "last"])
def test_a_json_answer_longer_than_the_bound_tells_its_usage(where: str, piece: int) -> None:
    data = [{"index": n, "embedding": [0.0123456789] * 700, "note": '"usage": {'} for n in range(60)]
    answer = {"model": "m", "usage": USAGE, "data": data} if where == "first" else {"data": data, "usage": USAGE}
    text = json.dumps(answer).encode() + b"\n"
    assert len(text) > 2 * BOUND
    assert read(*(text[start : start + piece] for start in range(0, len(text), piece))) == COUNTS


def test_in_a_long_answer_a_tools_argument_is_not_taken_for_usage() -> None:
    tool = {"type": "tool_use", "input": {"usage": {"prompt_tokens": 9}, "timings": {"prompt_n": 9}}}
    padding = "x" * 2 * BOUND
    assert read_json({"content": [tool], "padding": padding, "more": [tool]}) is None
    assert read_json({"content": [tool], "usage": USAGE, "padding": padding, "more": [tool]}) == COUNTS
    assert read_json({"content": [tool], "padding": padding, "usage": USAGE, "more": tool}) == COUNTS


def test_no_answer_is_kept_beyond_the_bound() -> None:
    piece = b"0.123456," * 7000
    readers = [UsageReader.for_answer(CHAT, headers) for headers in (JSON, SSE)]
    tracemalloc.start()
    for _ in range(800):
        for reader in readers:
            assert reader is not None
            reader.feed(bytes(bytearray(piece)))  # each time bytes of their own
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 2 * (BOUND + 2 * len(piece))


ANTHROPIC = stream(
    {"type": "message_start", "message": {"usage": {**CACHING, "output_tokens": 1}}},
    {"type": "content_block_delta", "delta": {"type": "text_delta", "text": 'so "usage" and "timings" it is'}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"input_tokens": 0, "output_tokens": 50}},
    {"type": "message_stop"},
)  # fmt: skip
LONG_ITEM = {"type": "message", "content": [{"type": "output_text", "text": 'words "usage": { ' * 200}]}
CHUNK = {"choices": [{"delta": {"content": "a"}}]}
STREAMS = {
    "openai": (stream(CHUNK, CHUNK, {**CHUNK, "usage": None}, {"choices": [], "usage": USAGE}, "[DONE]"), COUNTS),
    "llama.cpp": (stream(CHUNK, {"choices": [], "usage": USAGE, "timings": TIMINGS}, "[DONE]"), FULL),
    "llama.cpp without usage": (stream(CHUNK, {**CHUNK, "timings": TIMINGS}, "[DONE]"), FULL),
    "timings in every event": (stream({**CHUNK, "timings": {"predicted_n": 9}}, {**CHUNK, "timings": TIMINGS}), FULL),
    "usage in every event": (stream({"usage": {**USAGE, "completion_tokens": 3}}, {"usage": USAGE}), COUNTS),
    "vllm": (
        stream(CHUNK, {"usage": USAGE, "metrics": {"time_to_first_token_ms": 24, "mean_itl_ms": 10}}),
        Usage(20, 50, 8, 500.0, 100.0),
    ),
    "anthropic": (ANTHROPIC, COUNTS),
    "responses": (
        stream(
            {"type": "response.created", "response": {"usage": None, "output": []}},
            {"type": "response.completed", "response": {"output": [LONG_ITEM], "usage": RESPONSES_USAGE}},
        ),
        COUNTS,
    ),
    "responses, usage not last": (
        stream({"type": "response.completed", "response": {"usage": RESPONSES_USAGE, "output": [LONG_ITEM]}, "n": 1}),
        COUNTS,
    ),
    "carriage returns": (stream(CHUNK, {"usage": USAGE}, "[DONE]", end="\r\n"), COUNTS),
    "no blank after the colon": (b'data:{"usage":%s}\n\n' % json.dumps(USAGE).encode(), COUNTS),
    "other lines": (b": ping\nevent: x\nid: 1\n" + stream({"usage": USAGE}) + b'event: "usage"\n: "usage"\n\n', COUNTS),
    "no end of line": (stream(CHUNK, {"usage": USAGE}).rstrip(), COUNTS),
    "broken off": (stream({"usage": USAGE}) + b'data: {"usage": {"prompt_tokens": 9', COUNTS),
    "not json": (stream({"usage": USAGE}, '"usage": {', '{"usage": "x"}', "[DONE]"), COUNTS),
    "nothing": (stream(CHUNK, CHUNK, "[DONE]"), None),
    "empty": (b"", None),
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_cut_at_any_byte_tells_the_same(name: str) -> None:
    text, usage = STREAMS[name]
    assert read(text, headers=SSE) == usage
    assert read(*(bytes([byte]) for byte in text), headers=SSE) == usage
    for place in range(len(text) + 1):
        assert read(text[:place], text[place:], headers=SSE) == usage


@given(st.sampled_from(sorted(STREAMS)), st.lists(st.integers(0, 5000), max_size=12))
def test_a_stream_cut_anywhere_any_number_of_times_tells_the_same(name: str, cuts: list[int]) -> None:
    text, usage = STREAMS[name]
    places = [0, *sorted(cuts), len(text)]
    assert read(*(text[a:b] for a, b in pairwise(places)), headers=SSE) == usage


@given(st.binary(max_size=300), st.sampled_from([JSON, SSE]), st.sampled_from(["", "gzip", "deflate"]), st.booleans())
def test_no_answer_raises(data: bytes, headers: Headers, encoding: str, has_key: bool) -> None:
    text = data + (b'"usage":{"timings":' if has_key else b"") + data + b"\n"
    read(text, text, headers=[*headers, (b"content-encoding", encoding.encode())])
    read(b"data: " + text, data, headers=headers, status=500)


NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["usage", "timings", "metrics", "response", "message", "prompt_tokens", "prompt_n", "x"]),
            inner,
        )
    ),
)


@given(NESTED)
def test_no_json_raises_and_no_count_is_impossible(value: Any) -> None:
    padded = {**value, "x": "x" * 2000} if isinstance(value, dict) else value
    for usage in (read_json(value), read_json(padded), read(stream(value), headers=SSE)):
        if usage is not None:
            assert min(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) >= 0
            assert max(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) < 2**31


@pytest.mark.parametrize("cut", [1, 7, 300, 65536])
def test_a_line_longer_than_the_bound_tells_its_usage(cut: int) -> None:
    long = {"type": "response.completed", "response": {"output": ["x" * 2 * BOUND], "usage": RESPONSES_USAGE}}
    text = stream(CHUNK, long, CHUNK)
    size = max(cut, len(text) // 3000)
    assert read(*(text[start : start + size] for start in range(0, len(text), size)), headers=SSE) == COUNTS


def raw_deflate(data: bytes) -> bytes:
    squeezer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return squeezer.compress(data) + squeezer.flush()


@pytest.mark.parametrize(
    ("encoding", "squeeze"),
    [
        (b"gzip", gzip.compress),
        (b"X-GZIP", gzip.compress),
        (b"gzip", lambda data: gzip.compress(data[:40]) + gzip.compress(data[40:])),
        (b"deflate", zlib.compress),
        (b"deflate", raw_deflate),
        (b"identity", bytes),
    ],
)
def test_compressed_answers_are_read_too(encoding: bytes, squeeze: Any) -> None:
    body = json.dumps({"padding": "x" * 3 * BOUND, "usage": USAGE, "timings": TIMINGS}).encode()
    for headers, text in ((JSON, body), (SSE, STREAMS["llama.cpp"][0])):
        squeezed = squeeze(text)
        for size in (1, 100, len(squeezed)):
            pieces = [squeezed[start : start + size] for start in range(0, len(squeezed), size)]
            if len(pieces) < 20_000:
                assert read(*pieces, headers=[*headers, (b"content-encoding", encoding)]) == FULL


def test_what_swells_beyond_measure_is_read_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three gigabytes of blanks in three megabytes held up everybody for a second and a half."""
    body = b'{"padding": "' + b" " * 300_000_000 + b'", "usage": ' + json.dumps(USAGE).encode() + b"}"
    squeezed = gzip.compress(body, 1)
    inflated = 0

    def count(self: Any, data: bytes) -> None:
        nonlocal inflated
        inflated += len(data)

    monkeypatch.setattr(JsonReader, "feed", count)
    assert read(squeezed, headers=[*JSON, (b"content-encoding", b"gzip")]) is None
    assert 0 < inflated < 150 * len(squeezed) < len(body)


def test_what_is_compressed_wrongly_tells_what_came_before() -> None:
    squeezed = gzip.compress(STREAMS["openai"][0])
    headers = [*SSE, (b"content-encoding", b"gzip")]
    assert read(squeezed[:-8], b"\0" * 8, b"more", headers=headers) == COUNTS
    assert read(b"not compressed", b"at all", headers=headers) is None


@pytest.mark.parametrize(
    ("path", "headers", "method"),
    [
        (CHAT, [], "POST"),
        (CHAT, [(b"content-type", b"audio/mpeg")], "POST"),
        (CHAT, [(b"content-type", b"text/html")], "POST"),
        (CHAT, [*JSON, (b"content-encoding", b"br")], "POST"),
        (b"/v1/responses/resp_1", JSON, "GET"),
        (b"/v1/responses/resp_1/cancel", JSON, "POST"),
        (b"/v1/messages/count_tokens", JSON, "POST"),
        (b"/tokenize", JSON, "POST"),
    ],
)
def test_where_nothing_is_to_be_read_there_is_no_reader(path: bytes, headers: Headers, method: str) -> None:
    assert UsageReader.for_answer(path, headers, method=method) is None


@pytest.mark.parametrize(
    "kind", [b"application/json", b"Application/JSON ; charset=utf-8", b"application/problem+json"]
)
def test_json_is_known_by_its_content_type(kind: bytes) -> None:
    assert read_json({"usage": USAGE}, headers=[(b"content-type", kind)]) == COUNTS


@pytest.mark.parametrize("kind", [b"text/event-stream", b"text/event-stream; charset=utf-8", b"Text/Event-Stream;x=y"])
def test_a_stream_is_known_by_its_content_type(kind: bytes) -> None:
    reader = UsageReader.for_answer(CHAT, [(b"content-type", kind)])
    assert reader is not None
    assert reader.is_stream


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "no such model", "code": 404}}, "no such model"),
        ({"error": "no such model"}, "no such model"),
        ({"message": "no such model", "object": "error"}, "no such model"),
        ({"detail": "no such model"}, "no such model"),
        ({"error": {"message": "x" * 1000}}, "x" * 300),
        ({"error": {"message": 5}}, ""),
        ([], ""),
    ],
)
@pytest.mark.parametrize("encoding", [b"identity", b"gzip"])
def test_the_sentence_of_an_engines_error_is_kept(body: Any, message: str, encoding: bytes) -> None:
    reader = UsageReader.for_answer(CHAT, [*JSON, (b"content-encoding", encoding)], status=400)
    assert reader is not None
    text = json.dumps(body).encode()
    reader.feed(gzip.compress(text) if encoding == b"gzip" else text)
    assert reader.finish() is None
    assert reader.error_message == message


def test_the_accounting_is_imported_without_django() -> None:
    program = "import sys, gateway.accounting; print({'django', 'accounts', 'instances'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
