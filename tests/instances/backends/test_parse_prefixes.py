"""What stands before and around an engine's own arguments in a pasted command line."""

from __future__ import annotations

import contextlib
import time

import pytest

from instances.backends.base import ParseError
from instances.backends.registry import get_backend
from instances.backends.shellwords import LONGEST_COMMAND


@pytest.mark.parametrize(
    ("command", "environment"),
    [
        ("CUDA_VISIBLE_DEVICES=0 llama-server -m a.gguf", {"CUDA_VISIBLE_DEVICES": "0"}),
        ("A=1 B='two words' llama-server -m a.gguf", {"A": "1", "B": "two words"}),
        ("env -u HOME A=1 llama-server -m a.gguf", {"A": "1"}),
        ("sudo -u model -E A=1 nohup llama-server -m a.gguf > log 2>&1 &", {"A": "1"}),
        ("export A=1 && cd /srv && llama-server -m a.gguf", {"A": "1"}),
        ("export A=1\nllama-server -m a.gguf", {"A": "1"}),
        ("nice -n 5 llama-server -m a.gguf | tee log", {}),
        ("$ llama-server -m a.gguf", {}),
        (
            "docker run --rm -it --gpus all -p 80:80 -e A=1 --env=B=2 -eC=3 --env D -v /m:/m llama:server -m a.gguf",
            {"A": "1", "B": "2", "C": "3"},
        ),
        ("podman container run -d --name x image llama-server -m a.gguf", {}),
        ("sudo docker --context far run --network host image -m a.gguf", {}),
        (r"C:\tools\llama-server.exe -m a.gguf", {}),
    ],
)
def test_prefixes_are_stripped_and_assignments_become_environment(command: str, environment: dict[str, str]) -> None:
    parsed = get_backend("llama_cpp").parse_command(command)
    assert parsed.options == {"model": "a.gguf"}
    assert parsed.environment == environment


@pytest.mark.parametrize(
    ("command", "model"),
    [
        (r"C:\tools\llama-server.exe -m C:\models\a.gguf", r"C:\models\a.gguf"),
        (r"llama-server.exe -m models\new\a.gguf", r"models\new\a.gguf"),
        (r'"C:\my tools\llama-server.exe" -m "C:\my models\a.gguf"', r"C:\my models\a.gguf"),
        (r"llama-server -m C:\models\a.gguf", r"C:\models\a.gguf"),
        ("llama-server.exe `\r\n -m a.gguf", "a.gguf"),
        ("llama-server.exe ^\r\n -m a.gguf", "a.gguf"),
        (r"llama-server -m /my\ models/a.gguf", "/my models/a.gguf"),
        (r'llama-server -m "a \"b\" c.gguf"', 'a "b" c.gguf'),
        ("llama-server -m 'a'\"b\"c", "abc"),
        ("llama-server \\   \r\n  -m\\\na.gguf", "a.gguf"),
    ],
)
def test_quotes_and_backslashes_mean_what_their_shell_means(command: str, model: str) -> None:
    assert get_backend("llama_cpp").parse_command(command).options == {"model": model}


@pytest.mark.parametrize("command", ["", "  \n ", "\\\n", " \\\n \\\n "])
def test_an_empty_command_is_refused_with_the_text_clients_know(command: str) -> None:
    with pytest.raises(ParseError) as caught:
        get_backend("vllm").parse_command(command)
    assert (caught.value.code, caught.value.message) == ("invalid_command", "Command cannot be empty")


@pytest.mark.parametrize("backend", ["llama_cpp", "vllm", "mlx_lm", "command"])
@pytest.mark.parametrize("command", ["x " * 40_000, "x \0 y", "x \x1b[0m", "x \ud800"])
def test_what_no_command_line_can_hold_is_refused(backend: str, command: str) -> None:
    with pytest.raises(ParseError) as caught:
        get_backend(backend).parse_command(command)
    assert caught.value.code == "parse_error"
    assert caught.value.message


@pytest.mark.parametrize(
    "piece", ["\\x", "C:\\", "\\ ", "'a'", '"b\\"', "{", "--x=", "; ", "A=1 ", "-e ", "docker run "]
)
def test_the_longest_command_is_read_at_once(piece: str) -> None:
    text = "llama-server " + piece * (LONGEST_COMMAND // len(piece) - 20)
    started = time.process_time()
    with contextlib.suppress(ParseError):
        get_backend("llama_cpp").parse_command(text)
    assert time.process_time() - started < 3
