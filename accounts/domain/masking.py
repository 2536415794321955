"""Hiding secrets in options, command lines and records that are shown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

MASK = "********"
SECRET_NAME = re.compile(r"key|token|secret|passw|credential|auth", re.IGNORECASE)
"""Names of variables and settings whose value may be a secret; wide, as anybody may invent one."""
SECRET_OPTION = re.compile(
    r"((^|_)(api_?key|key|token|secret|passw(or)?d|passphrase|credentials?|auth(orization)?|cookies?)|^hft)$",
    re.IGNORECASE,
)
"""Options whose value is a secret itself; ``max_tokens`` and ``tokenizer`` are none. ``hft`` is llama.cpp's."""
INNER_SECRET = re.compile(
    r"((?<!\S)--?(?:[\w-]*[-_])?(?i:api-?key|key|token|secret|password|passwd|credentials?|auth|hft)(?:=|\s+)"
    r"|\b(?:\w*_)?(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD)="
    r"|\b(?i:bearer|basic)\s+)"
    r"(\"[^\"]*\"|'[^']*'|[^\s\"';]+)"
)
"""A secret inside a longer text, such as a script or a header: behind a flag, a variable or a scheme's name."""
SECRET_FIELD = re.compile(
    rf"{SECRET_OPTION.pattern}|_hash$|(session_key|recovery_codes?)$",
    re.IGNORECASE,
)
"""Fields of a record that hold a secret, or what opens something as a secret does."""
LINE_SECRET = re.compile(r"^(\s*[\w-]*(?i:key|token|secret|password|passwd|hft)\s*[=:]\s*)(?!\s).+$", re.MULTILINE)
"""A secret on a line of its own, as in an INI file."""
KNOWN_SECRET = re.compile(r"\b(?:corral|corral-mgmt|llamactl|llamactl-mgmt|sk)-[\w-]{16,}|\bhf_[A-Za-z0-9]{16,}")
"""Keys that their beginning gives away: Corral's, llamactl's, OpenAI's and Hugging Face's."""
TEXT_AT_MOST = 2000
URL_PASSWORD = re.compile(r"(\w+://[^\s/:@]*:)[^\s/@]+@")


def mask_secrets(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with those masked whose names look like secrets, one level of nesting included."""
    return {
        name: mask_secrets(value)
        if isinstance(value, Mapping)
        else MASK
        if value and SECRET_NAME.search(name)
        else value
        for name, value in values.items()
    }


def mask_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return engine options, extra arguments among them, with secrets masked."""
    return {
        name: mask_options(value)
        if isinstance(value, Mapping)
        else (mask_value(value) if value and value is not True and SECRET_OPTION.search(name) else value)
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


def mask_record(record: Mapping[str, Any], *, hides: re.Pattern[str] = SECRET_FIELD) -> dict[str, Any]:
    """Return a record, objects and lists inside included, with secrets masked and long texts cut, fit to be kept.

    Secret is what its name says to be, what looks like one of the known kinds of keys, and what stands inside a text
    behind a flag's or a variable's name. Variables of an environment are held to the wider ``SECRET_NAME``.
    """
    return {
        clean_text(str(name)): mask_value(value)
        if value and hides.search(str(name))
        else mask_inside(value, hides=SECRET_NAME if "environment" in str(name).lower() else hides)
        for name, value in record.items()
    }


def mask_inside(value: object, *, hides: re.Pattern[str]) -> object:
    """Return a value of a record with the secrets inside it masked."""
    if isinstance(value, Mapping):
        return mask_record(value, hides=hides)
    if isinstance(value, str):
        return mask_long_text(value)
    if isinstance(value, list | tuple | set | frozenset):
        items = [*(sorted(value, key=str) if isinstance(value, set | frozenset) else value)]
        if all(isinstance(item, str) for item in items):
            return [mask_long_text(word) for word in mask_arguments(items)]
        return [mask_inside(item, hides=hides) for item in items]
    return value


def mask_long_text(text: str) -> str:
    """Return a text without secrets, at most ``TEXT_AT_MOST`` characters of it."""
    cut = mask_text(clean_text(text[: TEXT_AT_MOST + 500]))
    cut = KNOWN_SECRET.sub(MASK, LINE_SECRET.sub(rf"\g<1>{MASK}", cut))
    return cut if len(text) <= TEXT_AT_MOST else f"{cut[:TEXT_AT_MOST]}… ({len(text)} characters)"


def clean_text(text: str) -> str:
    """Return a text that every database can keep: without NUL and lone surrogates."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
