"""Which files on the host an instance's options name."""

from __future__ import annotations

from typing import Any

import pytest

from instances.backends.registry import get_backend

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
    (
        "llama_cpp",
        {
            "extra_args": {
                "mcp_servers_config": "~/mcp.json",
                "tools": "all",
                "hidden": ["a", "x=/etc/passwd"],
                "json": {"deep": [{"file": "../up"}]},
                "url": "https://host/path",
                "local": "file:///etc/shadow",
                "repo": "org/name",
                "flag": "",
            }
        },
        [
            ("extra_args.mcp_servers_config", "~/mcp.json"),
            ("extra_args.hidden", "/etc/passwd"),
            ("extra_args.json", "../up"),
            ("extra_args.local", "/etc/shadow"),
        ],
    ),
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
    ("vllm", {"config": "c.yaml"}, [("extra_args.config", "c.yaml")]),
    (
        "mlx_lm",
        {"model": "/m/x", "adapter_path": "adapters", "draft_model": "org/name"},
        [("model", "/m/x"), ("adapter_path", "adapters")],
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
