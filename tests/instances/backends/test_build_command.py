"""From options to the program that is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from instances.backends.base import BackendSettings, Launch, OptionError
from instances.backends.registry import get_backend
from tests.instances.backends.launches import ADDRESS, build


@pytest.mark.parametrize(
    ("options", "argv"),
    [
        ({"threads": 4, "gpu_layers": 16, "model": "a"}, ("--threads", "4", "--gpu-layers", "16", "--model", "a")),
        ({"gpu_layers": 0, "temp": 0, "seed": 0}, ("--gpu-layers", "0", "--seed", "0", "--temp", "0")),
        ({"mmap": False, "no_jinja": False, "mlock": False}, ("--no-mmap",)),
        ({"mmproj_auto": False, "webui": False}, ("--no-mmproj-auto", "--no-webui")),
        ({"defrag_thold": -1, "rope_freq_base": 1e6}, ("--rope-freq-base", "1000000", "--defrag-thold", "-1")),
        ({"rope_freq_scale": 1e-5}, ("--rope-freq-scale", "0.00001")),
        ({"lora": ["a", "b c"]}, ("--lora", "a", "--lora", "b c")),
        ({"control_vector_layer_range": "1 32"}, ("--control-vector-layer-range", "1", "32")),
        ({"spec_replace": ["a b", "c"]}, ("--spec-replace", "a b", "c")),
        ({"fim_qwen_1_5b_default": True}, ("--fim-qwen-1.5b-default",)),
        ({"flash_attn": True}, ("--flash-attn", "on")),
        ({"lookup_cache_dynamic": "/c/d.bin"}, ("--lookup-cache-dynamic", "/c/d.bin")),
        ({"alias": "-x"}, ("--alias", "-x")),
        (
            {"extra_args": {"z_flag": "", "a-flag": "true", "n_x": "v", "o": "1", "ctxcp": 3, "off": False}},
            ("--z-flag", "--a-flag", "--n-x", "v", "-o", "1", "-ctxcp", "3"),
        ),
        ({"tool": ["a", True, "true"]}, ("--tool", "a", "--tool", "--tool", "true")),
        ({"json_thing": {"a": 1}}, ("--json-thing", '{"a":1}')),
    ],
)
def test_llama_server_gets_its_arguments(options: dict[str, Any], argv: tuple[str, ...]) -> None:
    """llamactl 11.2-23: zeros, and underscores and `true` in extra_args, did not arrive as flags."""
    command = build("llama_cpp", options)
    assert command.argv[0] == "llama-server"
    assert _without_address(command.argv[1:]) == argv
    assert command.environment == {}
    assert (command.stop_argv, command.cleanup_argv) == (None, None)


def _without_address(argv: tuple[str, ...]) -> tuple[str, ...]:
    at = argv.index("--host")
    assert argv[at : at + 4] == ADDRESS
    return argv[:at] + argv[at + 4 :]


def test_vllm_gets_its_model_first_and_argparse_forms() -> None:
    options = {
        "model": "a/b",
        "seed": -1,
        "enable_prefix_caching": False,
        "worker_use_ray": False,
        "gpu_memory_utilization": 0.9,
        "allowed_origins": ["http://a", "*"],
        "lora_modules": ["x=y", "z=w"],
        "middleware": ["m.A", "m.B"],
        "chat_template": "-x",
        "tp": 2,
        "served_model_name": ["foo", "bar"],
        "cc.pass_config.x": 1,
    }
    assert build("vllm", options, host="0.0.0.0").argv == (
        *("vllm", "serve", "a/b", "--host", "0.0.0.0", "--port", "8001", "--seed=-1", "--no-enable-prefix-caching"),
        *("--gpu-memory-utilization", "0.9", "--lora-modules", "x=y", "z=w"),
        *("--middleware", "m.A", "--middleware", "m.B", "--chat-template=-x"),
        *("--allowed-origins", '["http://a", "*"]', "--served-model-name", "foo", "bar", "-tp", "2"),
        *("--cc.pass_config.x", "1"),
    )


def test_mlx_gets_its_arguments_and_never_a_container() -> None:
    options = {"model": "a/b", "trust_remote_code": True, "temp": 0.7, "host": "0.0.0.0"}
    assert build("mlx_lm", options, docker_enabled=True, api_key="run").argv == (
        *("mlx_lm.server", "--model", "a/b", "--host", "0.0.0.0", "--port", "8001", "--trust-remote-code"),
        *("--temp", "0.7"),
    )


def test_the_port_is_always_the_runs_and_the_host_the_users_if_there_is_one() -> None:
    argv = build("llama_cpp", {"port": 9999, "host": "0.0.0.0"}).argv
    assert argv == ("llama-server", "--host", "0.0.0.0", "--port", "8001")


def test_settings_come_before_the_options_and_an_override_replaces_the_program_only() -> None:
    settings = BackendSettings(command="/opt/my server", args=("--verbose",))
    assert build("llama_cpp", {}, settings=settings).argv == ("/opt/my server", "--verbose", *ADDRESS)
    overridden = build("llama_cpp", {}, settings=settings, command_override="/opt/other one")
    assert overridden.argv == ("/opt/other one", "--verbose", *ADDRESS)


def test_a_preset_file_is_named_last_unless_the_user_names_another() -> None:
    path = Path("/data/instances/demo/preset.ini")
    assert build("llama_cpp", {"x": "y"}, preset_path=path).argv[-4:] == ("-x", "y", "--models-preset", str(path))
    assert build("llama_cpp", {"models_preset": "/p.ini"}, preset_path=path).argv.count("--models-preset") == 1
    assert "--models-preset" not in build("vllm", {"model": "a/b"}, preset_path=path).argv


@pytest.mark.parametrize(
    ("options", "environment", "expected"),
    [
        ({}, {}, {"LLAMA_API_KEY": "run"}),
        ({"api_key": "k1,k2"}, {}, {"LLAMA_API_KEY": "k1,k2,run"}),
        ({"extra_args": {"api-key": "k1"}}, {}, {"LLAMA_API_KEY": "k1,run"}),
        ({}, {"LLAMA_API_KEY": "k3"}, {"LLAMA_API_KEY": "k3,run"}),
        ({"hf_token": "hf"}, {}, {"LLAMA_API_KEY": "run", "HF_TOKEN": "hf"}),
    ],
)
def test_llama_servers_secrets_stay_out_of_its_arguments(
    options: dict[str, Any], environment: dict[str, str], expected: dict[str, str]
) -> None:
    command = build("llama_cpp", options, environment=environment, api_key="run")
    assert command.argv == ("llama-server", *ADDRESS)
    assert command.environment == expected


def test_vllm_takes_the_runs_key_from_its_environment() -> None:
    command = build("vllm", {"model": "a/b"}, api_key="run")
    assert command.environment == {"VLLM_API_KEY": "run"}
    assert "run" not in command.argv


@pytest.mark.parametrize("environment", [{}, {"VLLM_API_KEY": "ignored by vLLM"}])
def test_vllm_gets_every_key_as_an_argument_once_the_user_has_keys(environment: dict[str, str]) -> None:
    command = build("vllm", {"model": "a/b", "api_key": ["k1", "k2"]}, api_key="run", environment=environment)
    assert command.argv[-4:] == ("--api-key", "k1", "k2", "run")
    assert command.environment == environment


def test_vllm_keeps_a_users_key_from_the_environment_beside_the_runs() -> None:
    command = build("vllm", {"model": "a/b"}, api_key="run", environment={"VLLM_API_KEY": "k1"})
    assert command.argv[-3:] == ("--api-key", "k1", "run")


def test_a_key_vllm_cant_be_given_is_refused_without_showing_it() -> None:
    with pytest.raises(OptionError, match="api_key") as caught:
        build("vllm", {"model": "a/b", "api_key": ["-secret"]}, api_key="run")
    assert "secret" not in str(caught.value)


def test_later_environments_win() -> None:
    settings = BackendSettings(
        command="llama-server",
        environment={"A": "settings", "B": "settings"},
        docker_environment={"A": "docker"},
    )
    command = build("llama_cpp", {}, settings=settings, environment={"B": "instance"})
    assert command.environment == {"A": "settings", "B": "instance"}


@pytest.mark.parametrize("environment", [{"A=B": "x"}, {"": "x"}, {"A": "\0"}, {"A": "\ud800"}])
def test_an_environment_no_process_can_have_is_refused(environment: dict[str, str]) -> None:
    with pytest.raises(OptionError, match="environment"):
        build("llama_cpp", {}, environment=environment)


SERVED: list[tuple[str, dict[str, Any], str | None]] = [
    ("llama_cpp", {"model": "/m/a.gguf", "alias": "small, tiny"}, "small"),
    ("llama_cpp", {"model": "/m/a.gguf", "hf_repo": "a/b"}, "/m/a.gguf"),
    ("llama_cpp", {"hf_repo": "a/b:Q4"}, "a/b:Q4"),
    ("llama_cpp", {"models_dir": "/m", "alias": "x"}, None),
    ("llama_cpp", {}, None),
    ("vllm", {"model": "a/b"}, "a/b"),
    ("vllm", {"model": "a/b", "served_model_name": "foo"}, "foo"),
    ("vllm", {"model": "a/b", "extra_args": {"served-model-name": ["foo", "bar"]}}, "foo"),
    ("vllm", {}, None),
    ("mlx_lm", {"model": "a/b"}, "a/b"),
]


@pytest.mark.parametrize(("engine", "raw", "expected"), SERVED)
def test_the_engine_is_asked_for_the_model_it_serves(engine: str, raw: dict[str, Any], expected: str | None) -> None:
    backend = get_backend(engine)
    assert backend.served_model(backend.normalize_options(raw).options) == expected


@pytest.mark.parametrize("engine", ["llama_cpp", "vllm", "mlx_lm"])
def test_an_engine_is_ready_when_its_health_answers_200(engine: str) -> None:
    readiness = get_backend(engine).readiness({})
    assert (readiness.path, readiness.accepted_status, readiness.timeout_s) == ("/health", frozenset({200}), None)


def test_a_prefix_of_llama_server_stands_before_every_route() -> None:
    options = get_backend("llama_cpp").normalize_options({"api_prefix": "/llm/"}).options
    assert get_backend("llama_cpp").upstream_prefix(options) == "/llm"
    assert get_backend("llama_cpp").readiness(options).path == "/llm/health"


@pytest.mark.parametrize(
    ("host", "dialled"),
    [(None, "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "127.0.0.1"), ("[::1]", "::1"), ("10.0.0.5", "10.0.0.5")],
)
def test_an_engine_on_every_address_is_reached_on_this_machine(host: str | None, dialled: str) -> None:
    options = get_backend("llama_cpp").normalize_options({"host": host}).options
    assert get_backend("llama_cpp").upstream_host(options) == dialled


def test_a_launch_needs_only_what_every_run_has() -> None:
    launch = Launch("demo", {}, "127.0.0.1", 8001, BackendSettings("llama-server"))
    assert get_backend("llama_cpp").build_command(launch).argv == ("llama-server", *ADDRESS)
