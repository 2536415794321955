"""Reasons in short."""

from __future__ import annotations

import pytest

from instances.domain.reasons import summarize_reason


@pytest.mark.parametrize(
    ("reason", "short"),
    [
        ("", ""),
        ("It is disabled.", "It is disabled."),
        ("It ended.\nIts last log lines:\nloading\ndone", "It ended."),
        ("It ended.\nIts last log lines:\nerror: first\n ERROR: no file \nbye", "It ended.\nERROR: no file"),
        ("It ended.\nIts last log lines:\nFailed to load\nleaving", "It ended.\nFailed to load"),
        ("It ended.\nIts last log lines:\ninvalid argument: -x", "It ended.\ninvalid argument: -x"),
    ],
)
def test_the_sentence_is_followed_by_the_line_that_names_the_cause(reason: str, short: str) -> None:
    assert summarize_reason(reason) == short
