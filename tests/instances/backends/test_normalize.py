"""Decoding the options a client sends."""

from __future__ import annotations

from typing import Any

import pytest

from instances.backends.base import OptionError
from instances.backends.registry import BACKENDS, LEGACY_OPTION_KEYS, get_backend


def normalized(engine: str, raw: object) -> dict[str, Any]:
    return get_backend(engine).normalize_options(raw).options


@pytest.mark.parametrize(
    ("raw", "options"),
    [
        (None, {}),
        ({}, {}),
        ({"gpu_layers": 0, "temp": 0, "seed": 0}, {"gpu_layers": 0, "seed": 0, "temp": 0}),
        ({"mlock": False}, {"mlock": False}),
        ({"ctx-size": 4096, "--threads": 4, "-ngl": 3}, {"threads": 4, "ctx_size": 4096, "gpu_layers": 3}),
        (
            {"ctx_size": 4096.0, "threads": "8", "batch_size": "1e2"},
            {"threads": 8, "ctx_size": 4096, "batch_size": 100},
        ),
        ({"temp": "0.7", "top_p": 1.0, "min_p": 1}, {"temp": 0.7, "top_p": 1, "min_p": 1}),
        ({"flash_attn": True}, {"flash_attn": "on"}),
        ({"flash_attn": False, "fit": "0"}, {"flash_attn": "off", "fit": "off"}),
        ({"flash_attn": "auto"}, {"flash_attn": "auto"}),
        ({"lora": "a", "logit_bias": ["1+1", ""]}, {"lora": ["a"], "logit_bias": ["1+1"]}),
        ({"alias": 42, "tensor_split": 3}, {"tensor_split": "3", "alias": "42"}),
        ({"mlock": "on", "mmap": 0, "jinja": "NO"}, {"mlock": True, "mmap": False, "jinja": False}),
        ({"chat_template_kwargs": {"a": [1, None]}}, {"chat_template_kwargs": '{"a":[1,null]}'}),
        ({"control_vector_layer_range": [1, 32]}, {"control_vector_layer_range": "1 32"}),
        ({"control_vector_layer_range": "1,32"}, {"control_vector_layer_range": "1 32"}),
        ({"model": None, "alias": "", "lora": [], "threads": ""}, {}),
        ({"lookup_cache_static": "/c/static.bin"}, {"lookup_cache_static": "/c/static.bin"}),
        ({"fim-qwen-1.5b-default": True}, {"fim_qwen_1_5b_default": True}),
        ({"seed": 2**64 - 1}, {"seed": 2**64 - 1}),
        ({"grammar": "root ::= \n\t[a-z]"}, {"grammar": "root ::= \n\t[a-z]"}),
        ({"no_mmproj": True}, {"no_mmproj": True}),
        ({"port": 0}, {"port": 0}),
    ],
)
def test_options_come_out_in_their_own_types(raw: object, options: dict[str, Any]) -> None:
    assert normalized("llama_cpp", raw) == options
    assert list(normalized("llama_cpp", raw)) == list(options), "in the order of the catalogue"


@pytest.mark.parametrize(
    ("raw", "extra"),
    [
        ({"new_flag": True, "other": 5, "third": 1.5}, {"new_flag": "true", "other": "5", "third": "1.5"}),
        ({"big": 12345678901, "small": 1e-5}, {"big": "12345678901", "small": "0.00001"}),
        ({"many": [1, "b", True], "one": ["x"]}, {"many": ["1", "b", True], "one": "x"}),
        ({"nested": {"k": {"a": 1}}}, {"nested": '{"k":{"a":1}}'}),
        ({"off": False, "nothing": None, "empty": []}, {"off": False}),
        ({"extra_args": {"b-flag": "", "--a_flag": "2"}}, {"b_flag": "", "a_flag": "2"}),
        ({"a": 1, "extra-args": {"x": "y"}}, {"x": "y"}),
        ({"word": ["true"]}, {"word": ["true"]}),
        ({"json.some-key_x": 1}, {"json.some-key_x": "1"}),
    ],
)
def test_unknown_options_become_extra_arguments(raw: dict[str, Any], extra: dict[str, Any]) -> None:
    options = normalized("mlx_lm", {key: value for key, value in raw.items() if key != "a"})
    assert options["extra_args"] == extra
    assert list(options["extra_args"]) == list(extra), "in the order given"


def test_extra_arguments_that_the_catalogue_knows_are_taken_out_of_them() -> None:
    raw = {"extra_args": {"ctx-size": "4096", "mlock": "", "lora": "b", "port": "9000", "api_key": "k"}, "lora": ["a"]}
    assert normalized("llama_cpp", raw) == {
        "ctx_size": 4096,
        "lora": ["a", "b"],
        "mlock": True,
        "port": 9000,
        "api_key": "k",
    }


def test_an_option_outside_extra_args_wins_and_the_other_is_reported() -> None:
    result = get_backend("llama_cpp").normalize_options({"extra_args": {"ctx-size": 1}, "ctx_size": 2})
    assert result.options == {"ctx_size": 2}
    assert result.warnings == ['"ctx-size" was ignored: it means ctx_size, which "ctx_size" already sets']


@pytest.mark.parametrize("raw", [{"ngl": 1, "gpu_layers": 2}, {"gpu_layers": 2, "ngl": 1}])
def test_an_alias_wins_over_the_canonical_name_and_that_is_reported(raw: dict[str, int]) -> None:
    result = get_backend("llama_cpp").normalize_options(raw)
    assert result.options == {"gpu_layers": 1}
    assert result.warnings == ['"gpu_layers" was ignored: it means gpu_layers, which "ngl" already sets']


@pytest.mark.parametrize(
    ("raw", "field", "message"),
    [
        ({"ctx_size": "4k"}, "ctx_size", '"4k" is not a whole number; write one such as 4096'),
        ({"ctx_size": 1.5}, "ctx_size", "1.5 is not a whole number; write one such as 4096"),
        ({"ctx_size": True}, "ctx_size", "true is not a whole number; write one such as 4096"),
        ({"ctx_size": [1]}, "ctx_size", "[1] is not a whole number; write one such as 4096"),
        ({"c": 10**30}, "ctx_size", "is beyond 64 bits; write a smaller number"),
        ({"c": "9" * 5000}, "ctx_size", f'"{"9" * 57}..." is not a whole number; write one such as 4096'),
        ({"temp": "warm"}, "temp", '"warm" is not a number; write one such as 0.7'),
        ({"temp": float("nan")}, "temp", "must be finite; write a number such as 0.7"),
        ({"temp": "1e999"}, "temp", "must be finite; write a number such as 0.7"),
        ({"temp": 10**400}, "temp", None),
        ({"mlock": "maybe"}, "mlock", '"maybe" is neither true nor false; write true or false'),
        ({"mlock": 2}, "mlock", "2 is neither true nor false; write true or false"),
        ({"flash_attn": "fast"}, "flash_attn", '"fast" is not a setting; write on, off or auto'),
        ({"model": True}, "model", "true is not a text; write one text"),
        ({"model": ["a"]}, "model", '["a"] is not a text; write one text'),
        ({"model": "a\0b"}, "model", "contains the control character U+0000; remove it"),
        ({"model": "\ud800"}, "model", None),
        ({"model": "x" * 200_000}, "model", None),
        ({"lora": ["a", "\x07"]}, "lora", "contains the control character U+0007; remove it"),
        ({"control_vector_layer_range": "1 2 3"}, "control_vector_layer_range", None),
        ({"control_vector_layer_range": "'1 2"}, "control_vector_layer_range", None),
        ({"port": 65536}, "port", "65536 is not a port; write 1 to 65535, or leave it out to have one assigned"),
        ({"port": -1}, "port", "-1 is not a port; write 1 to 65535, or leave it out to have one assigned"),
        ({"host": "a b"}, "host", '"a b" is not a host; write an IP address or a host name'),
        ({"host": "/tmp/x.sock"}, "host", '"/tmp/x.sock" is not a host; write an IP address or a host name'),
        ({"extra_args": ["--x"]}, "extra_args", None),
        ({"extra_args": {"": "x"}}, "extra_args", None),
        ({"--x y": 1}, "extra_args", None),
        ({"x=y": 1}, "extra_args", None),
        ({"x\0": 1}, "extra_args", "contains the control character U+0000; remove it"),
        ({"x": "\0"}, "x", "contains the control character U+0000; remove it"),
        ({"x": {"y": float("inf")}}, "x", None),
        ([], "backend_options", None),
        ("x", "backend_options", None),
        ({str(number): 1 for number in range(2000)}, "backend_options", None),
    ],
)
def test_a_bad_value_is_refused_with_the_field_and_the_remedy(raw: object, field: str, message: str | None) -> None:
    with pytest.raises(OptionError) as caught:
        normalized("llama_cpp", raw)
    assert caught.value.field == field
    if message is None:
        assert ";" in caught.value.message, "says what is wrong; and what to do"
    else:
        assert caught.value.message == message


def test_deeply_nested_values_are_refused_and_not_a_crash() -> None:
    nested: Any = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(OptionError):
        normalized("llama_cpp", {"new_option": nested})


def test_vllm_takes_text_or_lists_where_it_takes_lists() -> None:
    assert normalized("vllm", {"lora_modules": "x=y", "api_key": "k", "allowed_origins": '["*"]'}) == {
        "lora_modules": ["x=y"],
        "allowed_origins": ["*"],
        "api_key": ["k"],
    }
    assert normalized("vllm", {"cpu_offload_gb": 1.5}) == {"cpu_offload_gb": 1.5}


def test_a_vllm_socket_is_warned_about_and_a_dashed_model_refused() -> None:
    assert get_backend("vllm").normalize_options({"uds": "/tmp/s"}).warnings
    with pytest.raises(OptionError, match="model"):
        normalized("vllm", {"model": "-x"})


def test_the_catalogues_are_complete() -> None:
    assert {name: len(backend.fields) for name, backend in BACKENDS.items() if name != "command"} == {
        "llama_cpp": 221,
        "mlx_lm": 16,
        "vllm": 156,
    }
    for backend in BACKENDS.values():
        names = [option.name for option in backend.fields]
        assert len(names) == len(set(names))


def test_fields_are_described_for_a_form() -> None:
    described = {entry["name"]: entry for entry in get_backend("llama_cpp").describe_fields()}
    assert described["gpu_layers"] == {
        "name": "gpu_layers",
        "kind": "int",
        "aliases": ["ngl", "n_gpu_layers"],
        "repeated": False,
        "group": "common",
        "basic": True,
        "flag": "--gpu-layers",
    }
    assert described["lora"]["repeated"]
    assert {name for name, entry in described.items() if entry["basic"]} == {
        "model",
        "hf_repo",
        "gpu_layers",
        "models_preset",
    }


def test_engines_are_found_by_type_and_by_the_name_in_urls() -> None:
    assert get_backend("llama-cpp") is get_backend("llama_cpp")
    assert get_backend("mlx") is get_backend("mlx_lm")
    assert set(LEGACY_OPTION_KEYS.values()) <= set(BACKENDS)
    with pytest.raises(KeyError, match="there is no engine"):
        get_backend("ollama")
