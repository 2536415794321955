"""Hiding secrets in options and command lines that are shown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from instances.domain.descriptions import MASK

SECRET_OPTION = re.compile(r"((^|_)(api_?key|key|token|secret|password|passwd)|^hft)$", re.IGNORECASE)
"""Options whose value is a secret itself; ``max_tokens`` and ``tokenizer`` are none. ``hft`` is llama.cpp's."""
INNER_SECRET = re.compile(
    r"((?<!\S)--?(?:[\w-]*[-_])?(?i:api-?key|key|token|secret|password|passwd|hft)(?:=|\s+)"
    r"|\b(?:\w*_)?(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD)="
    r"|\b(?i:bearer|basic)\s+)"
    r"(\"[^\"]*\"|'[^']*'|[^\s\"';]+)"
)
"""A secret inside a longer text, such as a script or a header: behind a flag, a variable or a scheme's name."""
URL_PASSWORD = re.compile(r"(\w+://[^\s/:@]*:)[^\s/@]+@")


def mask_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return engine options, extra arguments among them, with secrets masked."""
    return {
        name: mask_options(value)
        if isinstance(value, Mapping)
        else (mask_value(value) if value and SECRET_OPTION.search(name) else value)
        for name, value in options.items()
    }


def mask_value(value: object) -> object:
    """Return a mask of the value's own shape."""
    return [MASK for _ in value] if isinstance(value, list) else MASK


def mask_arguments(argv: Sequence[str]) -> list[str]:
    """Return a command's words with those masked that are secrets by the flag or name before them.

    Whatever follows ``--api-key`` up to the next flag, what stands behind ``TOKEN=``, passwords in addresses, and the
    same inside words that hold blanks, as a script for a shell does. A secret that nothing announces stays.
    """
    masked: list[str] = []
    hides_dashes = hides_words = False  # what may come next as a value: a word with one dash, any word without
    for word in argv:
        if word.startswith("--") or not (hides_dashes if word.startswith("-") else hides_words):
            name, sign, value = word.partition("=")
            is_secret = bool(SECRET_OPTION.search(name.lstrip("-").replace("-", "_")))
            hides_dashes = hides_words = is_secret and not sign and name.startswith("-")
            masked.append(f"{name}={MASK}" if is_secret and value else mask_text(word))
        else:
            hides_dashes = False
            masked.append(MASK)
    return masked


def mask_text(text: str) -> str:
    """Return a text without passwords in addresses and, when it holds blanks, without what follows a secret's name."""
    text = URL_PASSWORD.sub(rf"\g<1>{MASK}@", text)
    return INNER_SECRET.sub(rf"\g<1>{MASK}", text) if any(map(str.isspace, text)) else text
