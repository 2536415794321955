"""Which events of a stream bring text. Each of them is at least one token, in every engine."""

from __future__ import annotations

import re

_TEXT = re.compile(
    rb'"(?:content|text|reasoning|reasoning_content|thinking|refusal|arguments|partial_json|delta)"\s*:\s*"[^"]'
)
"""A text that isn't empty, under a name that the chat, completions, Messages, Responses and native APIs give it. It
can't be found within a text, where quotation marks are escaped."""
_WHOLE = re.compile(rb'"type"\s*:\s*"response\.[a-z_.]*(?<!\.delta)"')
"""An event of the Responses API that tells once more, as a whole, what came in pieces."""


def brings_text(line: bytes) -> bool:
    """Whether a line of a stream brings a piece of the answer that wasn't told before."""
    return _TEXT.search(line) is not None and _WHOLE.search(line) is None
