"""Which files on the host an instance's options name."""

from __future__ import annotations

from typing import Any

import pytest

from instances.backends.base import NamesFile, OptionError, OptionKind
from instances.backends.registry import BACKENDS, get_backend

CASES: list[tuple[str, dict[str, Any], list[tuple[str, str]]]] = [
    ("llama_cpp", {"model": "a.gguf", "mmproj": "/m/p.gguf"}, [("model", "a.gguf"), ("mmproj", "/m/p.gguf")]),
    ("llama_cpp", {"hf_repo": "a/b:Q4", "alias": "x/y", "chat_template": "{% if a/b %}"}, []),
    (
        "llama_cpp",
        {"lora": ["a.gguf,/x/b.gguf"], "lora_scaled": ["/c.gguf:0.5,d.gguf=1"], "control_vector": ['"/e,f.gguf"']},
        [
            ("lora", "a.gguf"),
            ("lora", "/x/b.gguf"),
            ("lora_scaled", "/c.gguf"),
            ("lora_scaled", "d.gguf"),
            ("control_vector", "/e,f.gguf"),
        ],
    ),
    ("llama_cpp", {"extra_args": {"log-file": "/etc/x"}}, [("log_file", "/etc/x")]),
    ("vllm", {"model": "org/name", "tokenizer": "org/name-2.5", "chat_template": "{{ a }}</s>"}, []),
    ("vllm", {"model": "/models/a"}, [("model", "/models/a")]),
    ("vllm", {"model": "./a"}, [("model", "./a")]),
    ("vllm", {"model": "a/../../b"}, [("model", "a/../../b")]),
    ("vllm", {"model": "../b"}, [("model", "../b")]),
    ("vllm", {"model": "C:\\models\\a"}, [("model", "C:\\models\\a")]),
    (
        "vllm",
        {"lora_modules": ["x=/l/x", '{"name": "y", "path": "/l/y"}', "z=org/name"], "ssl_keyfile": "key"},
        [("lora_modules", "/l/x"), ("lora_modules", "/l/y"), ("ssl_keyfile", "key")],
    ),
    ("vllm", {"chat_template": "/t.jinja"}, [("chat_template", "/t.jinja")]),
    ("vllm", {"chat_template": "chatml"}, [("chat_template", "chatml")]),
    ("vllm", {"model": "s3://bucket/a"}, [("model", "s3://bucket/a")]),
    ("vllm", {"model": "file:///etc/shadow"}, [("model", "/etc/shadow")]),
    (
        "mlx_lm",
        {"model": "/m/x", "adapter_path": "adapters", "draft_model": "org/name"},
        [("model", "/m/x"), ("adapter_path", "adapters"), ("draft_model", "org/name")],
    ),
    (
        "command",
        {"command": "/usr/bin/serve --model=/m/a ${PORT}", "stop_command": "./stop"},
        [("command", "/usr/bin/serve"), ("command", "/m/a"), ("stop_command", "./stop")],
    ),
]


@pytest.mark.parametrize(("engine", "raw", "files"), CASES)
def test_every_named_file_is_reported(engine: str, raw: dict[str, Any], files: list[tuple[str, str]]) -> None:
    backend = get_backend(engine)
    assert sorted(backend.files_named_by(backend.normalize_options(raw).options)) == sorted(files)


@pytest.mark.parametrize("scale", ["1", "-0.5", "+.5", "1e0", "1E-3", "2.e+1", " 1"])
@pytest.mark.parametrize("sign", [":", "="])
def test_a_scale_is_no_part_of_a_path(sign: str, scale: str) -> None:
    options = get_backend("llama_cpp").normalize_options({"lora_scaled": f"/m/a.gguf{sign}{scale}"}).options
    assert get_backend("llama_cpp").files_named_by(options) == [("lora_scaled", "/m/a.gguf")]


@pytest.mark.parametrize("scale", ["inf", "0x1p3", "1abc", ""])
def test_what_may_be_a_scale_or_a_name_is_reported_both_ways(scale: str) -> None:
    found = get_backend("llama_cpp").files_named_by({"lora_scaled": [f"/m/a.gguf:{scale}"]})
    assert found == [("lora_scaled", f"/m/a.gguf:{scale}"), ("lora_scaled", "/m/a.gguf")]


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("/m/a\n,/outside", "/outside"),
        ('"/m/a,/outside', "/outside"),
        ('/m/a","/m/b,/outside', "/outside"),
        ('"/m/a"x,/outside', "/outside"),
        ('"/m/a""b","/outside"', "/outside"),
    ],
)
def test_no_quote_and_no_line_break_hides_a_path_of_a_list(text: str, hidden: str) -> None:
    assert ("lora", hidden) in get_backend("llama_cpp").files_named_by({"lora": [text]})


def test_a_long_list_takes_no_long_time() -> None:
    backend = get_backend("llama_cpp")
    for text in ("/m/a:" + "1" * 100_000 + "x", "a:" * 50_000, '"' * 99_999, ",:" * 50_000):
        assert backend.files_named_by({"lora_scaled": [text]})


FILE_OPTIONS = [
    (backend.type, option)
    for backend in BACKENDS.values()
    for option in backend.fields
    if option.names_file is not NamesFile.NO
]


@pytest.mark.parametrize("character", ["\n", "\r", "\t", "\0", "\x1b", "\x7f", "\x85", "\u2028"])
@pytest.mark.parametrize(("engine", "option"), FILE_OPTIONS, ids=[f"{e}.{o.name}" for e, o in FILE_OPTIONS])
def test_no_option_that_names_a_file_takes_a_control_character(engine: str, option: Any, character: str) -> None:
    text = f"/m/a{character},/outside"
    for value in (text, f'{option.name}="{text}"'):
        with pytest.raises(OptionError, match="contains the control character") as caught:
            get_backend(engine).normalize_options({option.name: [value] if option.kind is OptionKind.LIST else value})
        assert caught.value.field == option.name


def test_templates_and_json_may_have_line_breaks_but_no_path_inside_them() -> None:
    backend = get_backend("vllm")
    kept = {"chat_template": "{% if a %}\n{{ b }}", "lora_modules": ['{"name": "y",\n "path": "/l/y"}']}
    assert backend.normalize_options(kept).options == {"lora_modules": kept["lora_modules"], **kept}
    with pytest.raises(OptionError, match=r"U\+000A"):
        backend.normalize_options({"lora_modules": ['{"name": "y", "path": "/l/y\\n"}']})
