"""What an engine reports about one answer: tokens and speed, in one meaning whatever the engine and the API."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

LARGEST = 2**31 - 1
"""Of a whole number in the database."""


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one request. 0 means none, or not reported."""

    prompt_tokens: int = 0
    """The whole prompt, what came from a cache included."""
    completion_tokens: int = 0
    cached_tokens: int = 0
    """The part of the prompt that came from a cache."""
    prompt_per_second: float | None = None
    """Prompt tokens per second as the engine reports it, cached ones excluded; None when it doesn't."""
    tokens_per_second: float | None = None
    """Generated tokens per second as the engine reports it; None when it doesn't."""
    is_floor: bool = False
    """Whether `completion_tokens` is only what it must be at least: the engine told less, or nothing."""


# Numbers are read as floats: an engine that writes 5.0 means 5, and None is what null becomes.
_Number = float | None


class Details(msgspec.Struct, gc=False):
    """`prompt_tokens_details` (OpenAI, chat) and `input_tokens_details` (OpenAI, Responses)."""

    cached_tokens: _Number = None


class UsageMember(msgspec.Struct, gc=False):
    """`usage` of OpenAI's chat, completions, embeddings and Responses APIs, and of Anthropic's Messages API."""

    prompt_tokens: _Number = None
    input_tokens: _Number = None
    completion_tokens: _Number = None
    output_tokens: _Number = None
    total_tokens: _Number = None
    cache_read_input_tokens: _Number = None
    cache_creation_input_tokens: _Number = None
    prompt_tokens_details: Details | None = None
    input_tokens_details: Details | None = None


class Timings(msgspec.Struct, gc=False):
    """`timings` of llama.cpp's server; `prompt_n` leaves out what came from the cache."""

    prompt_n: _Number = None
    cache_n: _Number = None
    predicted_n: _Number = None
    prompt_per_second: _Number = None
    predicted_per_second: _Number = None


class Metrics(msgspec.Struct, gc=False):
    """`metrics` that vLLM adds when asked to."""

    time_to_first_token_ms: _Number = None
    mean_itl_ms: _Number = None
    """Mean time between two tokens (inter-token latency)."""


class Nested(msgspec.Struct, gc=False):
    """`response` in events of the Responses API, `message` in those of the Messages API."""

    usage: UsageMember | None = None


class Answer(msgspec.Struct, gc=False):
    """The members of an answer, or of one event of a stream, that tell what was used."""

    usage: UsageMember | None = None
    timings: Timings | None = None
    metrics: Metrics | None = None
    response: Nested | None = None
    message: Nested | None = None


class Tally:
    """Collects what the events of a stream report; of each number the last positive one counts.

    Anthropic's stream, for example, tells the prompt in its first event and the completion in its last.
    """

    __slots__ = ("_metrics", "_timings", "_usage")

    def __init__(self) -> None:
        self._usage: UsageMember | None = None
        self._timings: Timings | None = None
        self._metrics: Metrics | None = None

    def add(self, answer: Answer) -> None:
        """Take in one event."""
        nested = answer.response or answer.message
        for usage in (answer.usage, nested.usage if nested is not None else None):
            if usage is not None:
                self._usage = usage if self._usage is None else _merge(self._usage, usage)
        self._timings = answer.timings or self._timings
        self._metrics = answer.metrics or self._metrics

    def total(self) -> Usage | None:
        """What has been collected; None when nothing was reported."""
        return summarize(Answer(self._usage, self._timings, self._metrics))


_COUNTS = tuple(name for name in UsageMember.__struct_fields__ if not name.endswith("_details"))


def _merge(known: UsageMember, newer: UsageMember) -> UsageMember:
    for name in _COUNTS:
        value = getattr(newer, name)
        if value is not None and value > 0:
            setattr(known, name, value)
    known.prompt_tokens_details = newer.prompt_tokens_details or known.prompt_tokens_details
    known.input_tokens_details = newer.input_tokens_details or known.input_tokens_details
    return known


def add_up(answers: Sequence[Answer]) -> Usage | None:
    """What a list of answers used, one for each prompt: the counts' sums, and the speeds of the last."""
    parts = [part for answer in answers if (part := summarize(answer))]
    if not parts:
        return None
    return Usage(
        prompt_tokens=min(sum(part.prompt_tokens for part in parts), LARGEST),
        completion_tokens=min(sum(part.completion_tokens for part in parts), LARGEST),
        cached_tokens=min(sum(part.cached_tokens for part in parts), LARGEST),
        prompt_per_second=parts[-1].prompt_per_second,
        tokens_per_second=parts[-1].tokens_per_second,
    )


def summarize(answer: Answer) -> Usage | None:
    """What an answer tells; None when it says nothing about use. Written out at length: it runs once per request."""
    usage, timings, metrics = answer.usage, answer.timings, answer.metrics
    prompt = completion = cached = 0.0
    if usage is not None:
        details = usage.prompt_tokens_details or usage.input_tokens_details
        cache_read = usage.cache_read_input_tokens or 0.0
        cached = (details.cached_tokens or cache_read) if details is not None else cache_read
        prompt = usage.prompt_tokens or 0.0
        completion = usage.completion_tokens or usage.output_tokens or 0.0
        if prompt <= 0:
            # Anthropic's input_tokens are the ones after the cached part; both kinds of cache count beside them.
            prompt = (usage.input_tokens or 0.0) + cache_read + (usage.cache_creation_input_tokens or 0.0)
            if prompt <= 0 and completion <= 0:
                prompt = usage.total_tokens or 0.0  # some engines' rerank answers say no more
    elif timings is None and metrics is None:
        return None
    prompt_speed = speed = None
    if timings is not None:
        if cached <= 0:
            cached = timings.cache_n or 0.0
        if prompt <= 0:
            prompt = (timings.prompt_n or 0.0) + cached
        if completion <= 0:
            completion = timings.predicted_n or 0.0
        prompt_speed, speed = timings.prompt_per_second, timings.predicted_per_second
    if metrics is not None:
        first, gap = metrics.time_to_first_token_ms or 0.0, metrics.mean_itl_ms or 0.0
        if first > 0 and prompt > cached:
            prompt_speed = (prompt - cached) * 1000 / first
        if gap > 0:
            speed = 1000 / gap
    return Usage(
        int(prompt) if 0 < prompt < LARGEST else _clamp(prompt),
        int(completion) if 0 < completion < LARGEST else _clamp(completion),
        int(cached) if 0 < cached < LARGEST else _clamp(cached),
        prompt_speed if prompt_speed is not None and 0 < prompt_speed < LARGEST else None,
        speed if speed is not None and 0 < speed < LARGEST else None,
    )


def _clamp(value: float) -> int:
    return 0 if value <= 0 else LARGEST
