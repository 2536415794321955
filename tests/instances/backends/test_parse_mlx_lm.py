"""parse-command for mlx_lm.server: every example llamactl documents, with the right result where its own was wrong."""

from __future__ import annotations

from typing import Any

import pytest

from instances.backends.base import ParseError
from instances.backends.registry import get_backend

UNDERSTOOD: list[tuple[str, dict[str, Any]]] = [
    ("mlx_lm.server --model /path/to/model --port 8080", {"model": "/path/to/model", "port": 8080}),
    (
        "mlx_lm.server --model mlx/Qwen3-4B-4bit --host 0.0.0.0 --temp 0.7 --trust-remote-code --log-level DEBUG",
        {
            "host": "0.0.0.0",
            "log_level": "DEBUG",
            "model": "mlx/Qwen3-4B-4bit",
            "temp": 0.7,
            "trust_remote_code": True,
        },
    ),
    ("--model x --max-tokens 512", {"max_tokens": 512, "model": "x"}),
    ("/venv/bin/mlx_lm.server --model=x --top-p=0.9", {"model": "x", "top_p": 0.9}),
    ("mlx_lm.server x --port 8080", {"model": "x", "port": 8080}),
    (
        "mlx_lm.server --model x --prompt-cache-size 10 --pipeline",
        {"extra_args": {"pipeline": "true", "prompt_cache_size": "10"}, "model": "x"},
    ),
    (
        "mlx_lm.server --chat-template-args '{\"enable_thinking\":false}'",
        {"chat_template_args": '{"enable_thinking":false}'},
    ),
    ("mlx_lm.server --port=8080 --port 8081", {"port": 8081}),
    ("MLX_LM.SERVER --model x", {"model": "x"}),
    ("mlx_lm.server \\\n --model x \\\n --port 8080", {"model": "x", "port": 8080}),
    ("mlx_lm.server -m x", {"extra_args": {"m": "x"}}),
    # From here on llamactl's own answer is wrong or an error.
    ("python -m mlx_lm.server --model x", {"model": "x"}),
    ("python3.12 -u -m mlx_lm server --model x", {"model": "x"}),
    ("/venv/bin/python3 -m mlx_lm.server --model x", {"model": "x"}),
    ("mlx_lm server --model x", {"model": "x"}),
    ("uv run --with mlx-lm mlx_lm.server --model x", {"model": "x"}),
    ("mlx_lm.server --trust-remote-code false", {"trust_remote_code": False}),
    ("mlx_lm.server --model 123", {"model": "123"}),
    ("mlx_lm.server --temp -1", {"temp": -1}),
    ("mlx_lm.server --trust-remote-code yes", {"trust_remote_code": True}),
    ("mlx_lm.server --pipeline x", {"extra_args": {"pipeline": "true"}, "model": "x"}),
]


@pytest.mark.parametrize(("command", "options"), UNDERSTOOD)
def test_an_mlx_command_becomes_options(command: str, options: dict[str, Any]) -> None:
    assert get_backend("mlx_lm").parse_command(command).options == options


REFUSED = [
    ("mlx_lm.server --port abc", '--port: "abc" is not a whole number; write one such as 4096'),
    ("mlx_lm.server --num-draft-tokens 3.7", '--num-draft-tokens: "3.7" is not a whole number; write one such as 4096'),
    ("mlx_lm.server ---model test", "malformed flag: ---model"),
    ('mlx_lm.server --model test --chat-template "unterminated', "unterminated quoted string"),
    (
        "mlx_lm.server --model -x",
        "--model needs a value, but -x follows; write --model=VALUE if that is it",
    ),
]


@pytest.mark.parametrize(("command", "message"), REFUSED)
def test_a_bad_mlx_command_is_refused_with_the_flag_and_the_remedy(command: str, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        get_backend("mlx_lm").parse_command(command)
    assert (caught.value.code, caught.value.message) == ("parse_error", message)
