"""A server of the user's own."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from instances.backends.base import OptionError
from instances.backends.registry import get_backend
from tests.instances.backends.launches import build

BACKEND = get_backend("command")


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        ("serve --port ${PORT}", ("serve", "--port", "8001")),
        ("serve --at ${HOST}:${PORT} --name ${MODEL_ID}", ("serve", "--at", "127.0.0.1:8001", "--name", "demo")),
        ("serve \\\n  --port=${PORT} \\\n  'two words'", ("serve", "--port=8001", "two words")),
        (["serve", "${PORT}", "a b", "|"], ("serve", "8001", "a b", "|")),
        ("sh -c 'exec serve ${PORT} | tee log'", ("sh", "-c", "exec serve 8001 | tee log")),
    ],
)
def test_the_command_is_split_and_its_macros_filled(command: str | list[str], argv: tuple[str, ...]) -> None:
    built = build("command", {"command": command}, environment={"A": "1"}, api_key="unused")
    assert (built.argv, built.environment, built.stop_argv) == (argv, {"A": "1"}, None)


def test_a_value_of_a_macro_is_not_searched_for_macros() -> None:
    assert build("command", {"command": "s ${MODEL_ID} ${PORT}"}).argv == ("s", "demo", "8001")
    backend_options = {"command": ["s", "${HOST}", "${PORT}"]}
    assert build("command", backend_options, host="${PORT}").argv == ("s", "${PORT}", "8001")


def test_the_process_id_stays_open_in_the_stop_command() -> None:
    options = {"command": "s ${PORT}", "stop_command": "kill -INT ${PID} ${PORT}"}
    assert build("command", options).stop_argv == ("kill", "-INT", "${PID}", "8001")


def test_the_built_command_runs_as_it_is() -> None:
    script = "import sys; print(sys.argv[1:])"
    built = build("command", {"command": [sys.executable, "-c", script, "${PORT}", "$HOME; `id`"]})
    answer = subprocess.run(built.argv, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "['8001', '$HOME; `id`']"


def test_a_fixed_port_needs_no_macro() -> None:
    assert BACKEND.normalize_options({"command": "serve", "port": "9000"}).options == {"command": "serve", "port": 9000}


@pytest.mark.parametrize(
    ("raw", "path", "timeout_s"),
    [
        ({}, "/health", None),
        ({"health_path": "/v1/models", "health_timeout": "90"}, "/v1/models", 90),
        ({"health_path": None}, None, None),
        ({"health-path": "none", "health_timeout": 2.5}, None, 2.5),
    ],
)
def test_readiness_is_the_users(raw: dict[str, Any], path: str | None, timeout_s: float | None) -> None:
    options = BACKEND.normalize_options({"command": "s ${PORT}", **raw}).options
    readiness = BACKEND.readiness(options)
    assert (readiness.path, readiness.timeout_s) == (path, timeout_s)
    assert BACKEND.normalize_options(options).options == options


@pytest.mark.parametrize(
    ("proxy", "host"),
    [
        (None, "127.0.0.1"),
        ("10.0.0.5", "10.0.0.5"),
        ("box.lan", "box.lan"),
        ("http://localhost:${PORT}", "localhost"),
        ("[::1]", "::1"),
    ],
)
def test_the_host_to_reach_it_at_is_the_users(proxy: str | None, host: str) -> None:
    assert BACKEND.upstream_host(BACKEND.normalize_options({"command": "s ${PORT}", "proxy": proxy}).options) == host


def test_the_model_name_is_the_users_or_the_clients() -> None:
    options = BACKEND.normalize_options({"command": "s ${PORT}", "served_model_name": "tiny"}).options
    assert BACKEND.served_model(options) == "tiny"
    assert BACKEND.served_model({"command": "s ${PORT}"}) is None


@pytest.mark.parametrize(
    ("raw", "field", "words"),
    [
        ({}, "command", "is missing"),
        ({"command": "  "}, "command", "is missing"),
        ({"command": []}, "command", "is missing"),
        ({"command": ["s", 1]}, "command", "list of texts"),
        ({"command": ["s\0", "${PORT}"]}, "command", "control character"),
        ({"command": "serve"}, "command", "doesn't use ${PORT}"),
        ({"command": "s ${PORT} ${NOPE}"}, "command", "no macro ${NOPE}"),
        ({"command": "s ${PORT} ${PID}"}, "command", "no macro ${PID}"),
        ({"command": "s ${PORT}", "stop_command": "kill ${WHO}"}, "stop_command", "no macro ${WHO}"),
        ({"command": "s ${PORT} 'x"}, "command", "unterminated quoted string"),
        ({"command": "s ${PORT} > log"}, "command", "no shell runs it"),
        ({"command": "a && s ${PORT}"}, "command", "no shell runs it"),
        ({"command": "s ${PORT}", "health_path": "health"}, "health_path", 'must begin with "/"'),
        ({"command": "s ${PORT}", "health_path": "/a b"}, "health_path", 'must begin with "/"'),
        ({"command": "s ${PORT}", "health_timeout": 0}, "health_timeout", "more than 0"),
        ({"command": "s ${PORT}", "proxy": "https://x"}, "proxy", "must be a host"),
        ({"command": "s ${PORT}", "proxy": "http://x:80"}, "proxy", "must be a host"),
        ({"command": "s ${PORT}", "proxy": "http://x:${PID}"}, "proxy", "no macro ${PID}"),
        ({"command": "s ${PORT}", "proxy": "a b"}, "proxy", "must be a host"),
        ({"command": "s ${PORT}", "model": "x"}, "model", "is not an option of a custom command"),
        ([], "backend_options", "must be an object"),
    ],
)
def test_a_bad_option_is_refused_with_its_name(raw: object, field: str, words: str) -> None:
    with pytest.raises(OptionError) as caught:
        BACKEND.normalize_options(raw)
    assert caught.value.field == field
    assert words in caught.value.message


def test_only_administrators_may_use_it() -> None:
    assert [backend.administrators_only for backend in (BACKEND, get_backend("vllm"))] == [True, False]


def test_a_pasted_command_is_kept_as_it_is() -> None:
    assert BACKEND.parse_command(" serve --port ${PORT} \n").options == {"command": "serve --port ${PORT}"}
