"""parse-command for llama-server: every example llamactl documents, with the right result where its own was wrong."""

from __future__ import annotations

from typing import Any

import pytest

from instances.backends.base import ParseError
from instances.backends.registry import get_backend

UNDERSTOOD: list[tuple[str, dict[str, Any]]] = [
    (
        "llama-server -m /path/to/model.gguf -c 2048 --port 8080",
        {"ctx_size": 2048, "model": "/path/to/model.gguf", "port": 8080},
    ),
    (
        "/usr/local/bin/llama-server --model=/m/a.gguf -ngl 99 --verbose",
        {"gpu_layers": 99, "model": "/m/a.gguf", "verbose": True},
    ),
    ("--model /m/a.gguf --ctx-size 4096", {"ctx_size": 4096, "model": "/m/a.gguf"}),
    (
        "llama-server \\\n --model /m/a.gguf \\\n --temp 0.7 \\\n --no-mmap",
        {"model": "/m/a.gguf", "no_mmap": True, "temp": 0.7},
    ),
    ("llama-server --model /m/a.gguf\n--threads 4", {"model": "/m/a.gguf", "threads": 4}),
    (
        "llama-server -hf unsloth/gemma-3-4b-it-GGUF:Q4_K_M --jinja -fa on",
        {"flash_attn": "on", "hf_repo": "unsloth/gemma-3-4b-it-GGUF:Q4_K_M", "jinja": True},
    ),
    ("llama-server --lora a.gguf --lora=b.gguf", {"lora": ["a.gguf", "b.gguf"]}),
    ("llama-server --lora a.gguf,b.gguf", {"lora": ["a.gguf,b.gguf"]}),
    ("llama-server --override-tensor exps=CPU -ot blk=CUDA0", {"override_tensor": ["exps=CPU", "blk=CUDA0"]}),
    ("llama-server --override-kv=tok.bos=bool:false", {"override_kv": ["tok.bos=bool:false"]}),
    (
        "llama-server -m a.gguf --unknown-flag value --another-bool-flag",
        {"extra_args": {"another_bool_flag": "true", "unknown_flag": "value"}, "model": "a.gguf"},
    ),
    ("llama-server model.gguf", {"model": "model.gguf"}),
    ("llama-server model.gguf --model other.gguf", {"model": "other.gguf"}),
    ("llama-server -m a.gguf -m b.gguf", {"model": "b.gguf"}),
    ('llama-server -m a.gguf --api-key "sk-123"', {"api_key": "sk-123", "model": "a.gguf"}),
    (
        "llama-server --chat-template-kwargs '{\"enable_thinking\":false}'",
        {"chat_template_kwargs": '{"enable_thinking":false}'},
    ),
    (
        "llama-server --embeddings --rerank --draft 16 -md d.gguf -ngld 99",
        {"draft_max": 16, "embedding": True, "gpu_layers_draft": 99, "model_draft": "d.gguf", "reranking": True},
    ),
    ("llama-server", {}),
    ("llama-server --seed=-1", {"seed": -1}),
    ("llama-server --gpu-layers 1e2 --rope-freq-scale 1e-5", {"gpu_layers": 100, "rope_freq_scale": 0.00001}),
    ("llama-server --kv-unified --no-kv-unified", {"kv_unified": True, "no_kv_unified": True}),
    ("llama-server -m a.gguf extra words --threads 8", {"model": "a.gguf", "threads": 8}),
    ("/opt/bin/my-llama-server -m a.gguf", {"model": "a.gguf"}),
    # From here on llamactl's own answer is wrong or an error.
    ('llama-server -m "/my models/a.gguf"', {"model": "/my models/a.gguf"}),
    (
        "llama-server --chat-template-kwargs '{\"enable_thinking\": false}'",
        {"chat_template_kwargs": '{"enable_thinking": false}'},
    ),
    ('llama-server -ot "exps=CPU"', {"override_tensor": ["exps=CPU"]}),
    ("llama-server --mlock false --temp 0", {"mlock": False, "temp": 0}),
    ("CUDA_VISIBLE_DEVICES=0 llama-server -hf a/b", {"hf_repo": "a/b"}),
    ("sudo llama-server -hf a/b", {"hf_repo": "a/b"}),
    ("llama-server.exe -hf a/b", {"hf_repo": "a/b"}),
    ("llama-server --fim-qwen-1.5b-default", {"fim_qwen_1_5b_default": True}),
    ("llama-server --seed -1", {"seed": -1}),
    ("llama-server -n -1", {"predict": -1}),
    ("llama-server --yarn-ext-factor -1.0", {"yarn_ext_factor": -1}),
    ("llama-server -fa", {"flash_attn": "on"}),
    ("llama-server --flash-attn -m a.gguf", {"flash_attn": "on", "model": "a.gguf"}),
    ("llama-server -fa model.gguf", {"flash_attn": "on", "model": "model.gguf"}),
    ("llama-server -fa auto", {"flash_attn": "auto"}),
    ("llama-server --verbose model.gguf", {"model": "model.gguf", "verbose": True}),
    ("llama-server --mlock on", {"mlock": True}),
    ("llama-server --mlock 1", {"mlock": True}),
    ("llama-server --mlock no --mmap=off", {"mlock": False, "mmap": False}),
    ("llama-server --lookup-cache-static f.bin", {"lookup_cache_static": "f.bin"}),
    ("llama-server --alias inf", {"alias": "inf"}),
    ("llama-server --api-key 12345", {"api_key": "12345"}),
    ("llama-server --alias 42 --tensor-split 3", {"alias": "42", "tensor_split": "3"}),
    ("llama-server --fit-target 1024 --alias true", {"alias": "true", "fit_target": "1024"}),
    # llama.cpp itself reads these two words; -1 and -2 are what it makes of them.
    ("llama-server --n-gpu-layers all", {"gpu_layers": -2}),
    ("llama-server -ngl auto", {"gpu_layers": -1}),
    # What llamactl couldn't say at all.
    ("llama-server --control-vector-layer-range 1 32", {"control_vector_layer_range": "1 32"}),
    ("llama-server --control-vector-layer-range '1 32' -v", {"control_vector_layer_range": "1 32", "verbose": True}),
    ("llama-server --spec-replace 'a b' c", {"spec_replace": "'a b' c"}),
    ("llama-server --tools a --tools b", {"extra_args": {"tools": ["a", "b"]}}),
    ("llama-server --new-flag -1 --other -v", {"extra_args": {"new_flag": "-1", "other": "true"}, "verbose": True}),
    ("llama-server --new-flag=", {"extra_args": {"new_flag": [""]}}),
    ("llama-server --new-flag true", {"extra_args": {"new_flag": ["true"]}}),
    ("llama-server -lv 2 -v", {"verbose": True, "verbosity": 2}),
    ("llama-server -C ff -c 5", {"cpu_mask": "ff", "ctx_size": 5}),
    ("llama-server --no-mmproj", {"no_mmproj": True}),
    ("llama-server -hf a/b word", {"hf_repo": "a/b"}),
    ("llama-server --alias -x", {"alias": "-x"}),
    ("llama-server --threads_batch 010 -t +8", {"threads": 8, "threads_batch": 10}),
]


@pytest.mark.parametrize(("command", "options"), UNDERSTOOD)
def test_a_llama_server_command_becomes_options(command: str, options: dict[str, Any]) -> None:
    """llamactl 11.2-23: types were guessed and quotes misread."""
    assert get_backend("llama_cpp").parse_command(command).options == options


REFUSED = [
    ("llama-server ---model test.gguf", "malformed flag: ---model"),
    ('llama-server --model test.gguf --api-key "unterminated', "unterminated quoted string"),
    ("llama-server --model it's", "unterminated quoted string"),
    ("llama-server --ctx-size 4k", '--ctx-size: "4k" is not a whole number; write one such as 4096'),
    ("llama-server -ngl lots", '-ngl: "lots" is not a whole number; write one such as 4096 or auto or all'),
    ("llama-server --ctx-size 4096.5", '--ctx-size: "4096.5" is not a whole number; write one such as 4096'),
    ("llama-server --temp warm", '--temp: "warm" is not a number; write one such as 0.7'),
    ("llama-server --temp nan", '--temp: "nan" is not a number; write one such as 0.7'),
    ("llama-server --port", "--port needs a value; write one behind it"),
    ("llama-server --model", "--model needs a value; write one behind it"),
    (
        "llama-server --model --threads 4",
        "--model needs a value, but --threads follows; write --model=VALUE if that is it",
    ),
    (
        "llama-server --port 70000",
        "--port: 70000 is not a port; write 1 to 65535, or leave it out to have one assigned",
    ),
    ("llama-server -", "malformed flag: -"),
    ("llama-server --$(id)", "malformed flag: --$(id)"),
]


@pytest.mark.parametrize(("command", "message"), REFUSED)
def test_a_bad_llama_server_command_is_refused_with_the_flag_and_the_remedy(command: str, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        get_backend("llama_cpp").parse_command(command)
    assert (caught.value.code, caught.value.message) == ("parse_error", message)
