"""parse-command for vLLM: every example llamactl documents, with the right result where its own was wrong."""

from __future__ import annotations

from typing import Any

import pytest

from instances.backends.base import ParseError
from instances.backends.registry import get_backend

UNDERSTOOD: list[tuple[str, dict[str, Any]]] = [
    ("vllm serve /path/to/model --port 8080", {"model": "/path/to/model", "port": 8080}),
    (
        "vllm serve microsoft/DialoGPT-medium --tensor-parallel-size 2",
        {"model": "microsoft/DialoGPT-medium", "tensor_parallel_size": 2},
    ),
    ("serve microsoft/DialoGPT-medium", {"model": "microsoft/DialoGPT-medium"}),
    ("vllm a/b", {"model": "a/b"}),
    ("VLLM SERVE a/b", {"model": "a/b"}),
    (
        "microsoft/DialoGPT-medium --tensor-parallel-size 2",
        {"model": "microsoft/DialoGPT-medium", "tensor_parallel_size": 2},
    ),
    ("vllm serve a/b --model c/d", {"model": "c/d"}),
    ("/venv/bin/vllm serve a/b --enable-prefix-caching", {"enable_prefix_caching": True, "model": "a/b"}),
    (
        "vllm serve a/b --middleware auth.py --middleware=cors.py --api-key k1 --api-key k2",
        {"api_key": ["k1", "k2"], "middleware": ["auth.py", "cors.py"], "model": "a/b"},
    ),
    ("vllm serve a/b --api-key 12345", {"api_key": ["12345"], "model": "a/b"}),
    ("vllm serve a/b --tensor_parallel_size 2", {"model": "a/b", "tensor_parallel_size": 2}),
    ("vllm serve a/b -tp 2", {"extra_args": {"tp": "2"}, "model": "a/b"}),
    ("vllm serve a/b --no-enable-prefix-caching", {"extra_args": {"no_enable_prefix_caching": "true"}, "model": "a/b"}),
    (
        "vllm serve a/b --enable-lora --max-loras 4",
        {"extra_args": {"enable_lora": "true", "max_loras": "4"}, "model": "a/b"},
    ),
    ("vllm serve \\\n a/b \\\n --dtype bfloat16", {"dtype": "bfloat16", "model": "a/b"}),
    (
        'vllm serve a/b --speculative-config {"model":"x"}',
        {"extra_args": {"speculative_config": '{"model":"x"}'}, "model": "a/b"},
    ),
    ("vllm", {}),
    ("vllm serve", {}),
    # From here on llamactl's own answer is wrong or an error.
    ("vllm serve --port 8000 a/b", {"model": "a/b", "port": 8000}),
    ("vllm serve --enable-lora a/b", {"extra_args": {"enable_lora": "true"}, "model": "a/b"}),
    (
        "vllm serve a/b --served-model-name foo bar",
        {"extra_args": {"served_model_name": ["foo", "bar"]}, "model": "a/b"},
    ),
    ("vllm serve a/b --served-model-name foo", {"extra_args": {"served_model_name": "foo"}, "model": "a/b"}),
    ("vllm serve a/b --lora-modules x=y", {"lora_modules": ["x=y"], "model": "a/b"}),
    ("vllm serve a/b --lora-modules x=y z=w", {"lora_modules": ["x=y", "z=w"], "model": "a/b"}),
    ("vllm serve a/b --prompt-adapters x=y", {"model": "a/b", "prompt_adapters": ["x=y"]}),
    ("vllm serve a/b --max-model-len 32k", {"max_model_len": 32000, "model": "a/b"}),
    ("vllm serve a/b --max-model-len 32K", {"max_model_len": 32768, "model": "a/b"}),
    ("vllm serve a/b --max-model-len 25.6k", {"max_model_len": 25600, "model": "a/b"}),
    ("vllm serve a/b --max-model-len auto", {"max_model_len": -1, "model": "a/b"}),
    ("vllm serve a/b --cpu-offload-gb 1.5", {"cpu_offload_gb": 1.5, "model": "a/b"}),
    ('vllm serve a/b --allowed-origins \'["http://a", "*"]\'', {"allowed_origins": ["http://a", "*"], "model": "a/b"}),
    ('vllm serve a/b --allowed-origins ["*"]', {"allowed_origins": ["*"], "model": "a/b"}),
    ("vllm serve a/b --allowed-origins http://a", {"allowed_origins": ["http://a"], "model": "a/b"}),
    ("python -m vllm.entrypoints.openai.api_server --model a/b", {"model": "a/b"}),
    ("vllm serve a/b --seed -1", {"model": "a/b", "seed": -1}),
    # As vLLM 0.32's own parser has them: a switch that took the model for its value, a value that was taken for the
    # model, lists that lost all but their first word.
    ("vllm serve --numa-bind a/b", {"extra_args": {"numa_bind": "true"}, "model": "a/b"}),
    (
        "vllm serve --disable-access-log-for-endpoints /health,/metrics a/b",
        {"extra_args": {"disable_access_log_for_endpoints": "/health,/metrics"}, "model": "a/b"},
    ),
    (
        "vllm serve a/b --collect-detailed-traces model worker",
        {"extra_args": {"collect_detailed_traces": ["model", "worker"]}, "model": "a/b"},
    ),
    (
        "vllm serve a/b --compilation-config.pass_config.fuse true",
        {"extra_args": {"compilation_config.pass_config.fuse": ["true"]}, "model": "a/b"},
    ),
]


@pytest.mark.parametrize(("command", "options"), UNDERSTOOD)
def test_a_vllm_command_becomes_options(command: str, options: dict[str, Any]) -> None:
    assert get_backend("vllm").parse_command(command).options == options


REFUSED = [
    ("vllm serve a/b --api-key", "--api-key needs a value; write one behind it"),
    (
        "vllm serve a/b --max-model-len 1.5K",
        '--max-model-len: "1.5K" is not a whole number; write one such as 4096 or a size such as 32k or auto',
    ),
    ("vllm serve a/b --max-num-seqs 32k", '--max-num-seqs: "32k" is not a whole number; write one such as 4096'),
    ("vllm serve a/b ---x", "malformed flag: ---x"),
    ('vllm serve "unterminated', "unterminated quoted string"),
    ("vllm serve a/b --allowed-origins '[oops'", '--allowed-origins: is not a JSON list; write one such as ["a", "b"]'),
]


@pytest.mark.parametrize(("command", "message"), REFUSED)
def test_a_bad_vllm_command_is_refused_with_the_flag_and_the_remedy(command: str, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        get_backend("vllm").parse_command(command)
    assert (caught.value.code, caught.value.message) == ("parse_error", message)
