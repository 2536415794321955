"""parse-command, and what the engines' programs say of themselves."""

from __future__ import annotations

import pytest

from tests.conftest import ApiClient
from tests.factories import make_node


@pytest.mark.parametrize(
    ("engine", "command", "answer"),
    [
        (
            "llama-cpp",
            "llama-server -m /path/to/model.gguf -c 2048 --port 8080",
            {
                "backend_type": "llama_cpp",
                "backend_options": {"ctx_size": 2048, "model": "/path/to/model.gguf", "port": 8080},
                "llama_server_options": {"ctx_size": 2048, "model": "/path/to/model.gguf", "port": 8080},
            },
        ),
        ("llama-cpp", "llama-server", {"backend_type": "llama_cpp"}),
        (
            "llama-cpp",
            "CUDA_VISIBLE_DEVICES=0 llama-server -hf a/b",
            {
                "backend_type": "llama_cpp",
                "backend_options": {"hf_repo": "a/b"},
                "llama_server_options": {"hf_repo": "a/b"},
                "environment": {"CUDA_VISIBLE_DEVICES": "0"},
            },
        ),
        (
            "mlx",
            "mlx_lm.server --model x --temp 0",
            {
                "backend_type": "mlx_lm",
                "backend_options": {"model": "x", "temp": 0},
                "mlx_server_options": {"model": "x", "temp": 0},
            },
        ),
        (
            "vllm",
            "vllm serve a/b --tensor-parallel-size 2",
            {
                "backend_type": "vllm",
                "backend_options": {"model": "a/b", "tensor_parallel_size": 2},
                "vllm_server_options": {"model": "a/b", "tensor_parallel_size": 2},
            },
        ),
    ],
)
def test_a_command_is_read_into_options_under_both_keys(
    api: ApiClient, engine: str, command: str, answer: dict[str, object]
) -> None:
    """Contract decision: ``backend_options`` and the older key; llamactl 11.2-23: zeros and prefixes are read right."""
    response = api("POST", f"backends/{engine}/parse-command", {"command": command})

    assert response.status_code == 200
    assert response.json() == answer
    assert list(answer.get("backend_options", {})) == sorted(response.json().get("backend_options", {}))


@pytest.mark.parametrize("engine", ["llama-cpp", "mlx", "vllm"])
@pytest.mark.parametrize(
    ("body", "code", "details"),
    [
        (b"", "invalid_request", "Invalid JSON body"),
        (b"nope", "invalid_request", "Invalid JSON body"),
        (b"[]", "invalid_request", "Invalid JSON body"),
        (b'{"command": 1}', "invalid_request", "Invalid JSON body"),
        (b'{"command": "a\\u0000"}', "invalid_request", "Invalid JSON body"),
        (b"{}", "invalid_command", "Command cannot be empty"),
        (b'{"command": null}', "invalid_command", "Command cannot be empty"),
        (b'{"command": " \\n "}', "invalid_command", "Command cannot be empty"),
        (b'{"command": "llama-server ---x"}', "parse_error", "malformed flag: ---x"),
        (b'{"command": "x --model \\"a"}', "parse_error", "unterminated quoted string"),
    ],
)
def test_the_three_errors_of_parse_command_are_the_contracts(
    api: ApiClient, engine: str, body: bytes, code: str, details: str
) -> None:
    response = api("POST", f"backends/{engine}/parse-command", body)

    assert response.status_code == 400
    assert response.json() == {"error": code, "details": details}


@pytest.mark.parametrize("path", ["server/help", "backends/llama-cpp/devices", "backends/vllm/version"])
def test_without_a_worker_an_engine_cannot_be_asked(api: ApiClient, path: str) -> None:
    make_node()

    response = api("GET", path)

    assert response.status_code == 503
    assert response.json()["error"] == "node_unavailable"


def test_a_broker_that_is_away_is_503_too(api: ApiClient) -> None:
    make_node(alive=True)

    assert api("GET", "server/version").status_code == 503


@pytest.mark.parametrize("path", ["backends/mlx/devices", "backends/command/help", "backends/command/parse-command"])
def test_what_an_engine_cannot_tell_is_404(api: ApiClient, path: str) -> None:
    assert api("GET", path).status_code == 404
