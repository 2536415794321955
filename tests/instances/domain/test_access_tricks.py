"""Ways in which an operator might try to run code on the host, name its files or open an engine to the network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from accounts.domain.actors import Actor, actor_for
from accounts.models import User
from instances.domain.access import check_options_allowed
from instances.domain.options import read_options
from instances.errors import PermissionDenied
from instances.models import Instance
from tests.factories import make_instance

LLAMA: list[tuple[dict[str, Any], str]] = [
    ({name: "/outside"}, option)
    for option, names in {
        "model": ["--model", "-m", "m", "model"],
        "lora": ["--lora"],
        "mmproj": ["--mmproj", "mm"],
        "log_file": ["--log-file", "log-file"],
        "api_key_file": ["--api-key-file"],
        "chat_template_file": ["--chat-template-file"],
        "slot_save_path": ["--slot-save-path"],
        "models_dir": ["--models-dir"],
    }.items()
    for name in names
]
LLAMA += [
    ({"log_file": "{root}/log"}, "log_file"),
    ({"slot_save_path": "{root}"}, "slot_save_path"),
    ({"models_preset": "{root}/presets.ini"}, "models_preset"),
    ({"path": "{root}"}, "path"),
    ({"host": "0.0.0.0"}, "host"),
    ({"mu": "http://there.example/a"}, "model_url"),
    ({"lora": ["{root}/a.gguf,/outside"]}, "lora"),
    ({"lora_scaled": ["{root}/link.gguf:1e0"]}, "lora_scaled"),
    ({"lora": ['{root}/a","{root}/b,/outside']}, "lora"),
    ({"model": "{root}/a.gguf", "hf_repo": "org/name", "hf_file": "x.gguf"}, "hf_repo"),
    ({"tools": "all"}, "extra_args.tools"),
    ({"--agent": ""}, "extra_args.agent"),
    ({"log-fil": "{root}/x"}, "extra_args.log_fil"),
]
OTHERS: list[tuple[str, dict[str, Any], str]] = [
    ("vllm", {"trust-remote": True}, "extra_args.trust_remote"),
    ("vllm", {"trust_remote_code": True}, "trust_remote_code"),
    ("vllm", {"middleware": ["os.system"]}, "middleware"),
    ("vllm", {"compilation_config": {"backend": "os.system"}}, "compilation_config"),
    ("vllm", {"compilation_config.backend": "os.system"}, "extra_args.compilation_config.backend"),
    ("vllm", {"config": "{root}/c.yaml"}, "extra_args.config"),
    ("vllm", {"model": "s3://bucket/model"}, "model"),
    ("vllm", {"lora_modules": ['{"name": "y", "path": "/outside"}']}, "lora_modules"),
    ("mlx_lm", {"trust_remote_code": "yes"}, "trust_remote_code"),
    ("mlx_lm", {"model": "org/name"}, "model"),
    ("mlx_lm", {"trust-remote-cod": ""}, "extra_args.trust_remote_cod"),
]
TRICKS = [("llama_cpp", *trick) for trick in LLAMA] + OTHERS


@pytest.fixture
def root(tmp_path: Path, change_settings: Any) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "link.gguf").symlink_to(tmp_path / "outside")
    change_settings(models_dirs=[folder])
    return folder


def check(actor: Actor, engine: str, options: dict[str, Any], before: Instance | None = None) -> None:
    wanted = read_options({"backend_type": engine, **options})
    check_options_allowed(actor=actor, backend_type=engine, options=wanted.options, before=before)


@pytest.mark.parametrize("trick", TRICKS, ids=[f"{t[0]} {t[1]}" for t in TRICKS])
@pytest.mark.parametrize("as_extra", [False, True])
def test_a_trick_is_refused_by_the_options_name(
    operator: User, admin: User, root: Path, trick: tuple[str, dict[str, Any], str], *, as_extra: bool
) -> None:
    engine, given, named = trick
    there = {key: json.loads(json.dumps(value).replace("{root}", str(root))) for key, value in given.items()}
    options = {"backend_options": {"extra_args": there} if as_extra else there}

    with pytest.raises(PermissionDenied, match="only an administrator") as caught:
        check(actor_for(operator), engine, options)

    assert list(caught.value.fields) == [f"backend_options.{named}"]
    check(actor_for(admin), engine, options)


def test_an_option_corral_does_not_know_is_refused_in_these_words(operator: User) -> None:
    with pytest.raises(PermissionDenied) as caught:
        check(actor_for(operator), "llama_cpp", {"backend_options": {"tools": "all", "agent": True}})

    sentence = "backend_options.extra_args.tools: only an administrator may set options that Corral doesn't know."
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("name", "value"),
    [("preset_ini", "[*]\nc = 1\n"), ("environment", {"LLAMA_ARG_TOOLS": "all"}), ("command_override", "/bin/sh")],
)
def test_options_beside_the_engines_are_no_way_in(operator: User, name: str, value: object) -> None:
    with pytest.raises(PermissionDenied) as caught:
        check(actor_for(operator), "llama_cpp", {name: value})

    assert list(caught.value.fields) == [name]


def granted_instance(operator: User, engine: str, engine_options: dict[str, Any]) -> Instance:
    options = read_options({"backend_type": engine, "backend_options": engine_options}).options
    return make_instance("alpha", owner=operator, backend_type=engine, options=options)


def test_what_was_granted_stays_and_covers_nothing_else(operator: User) -> None:
    granted = {"host": "0.0.0.0", "tools": "all", "model": "/outside"}
    before = granted_instance(operator, "llama_cpp", granted)
    actor = actor_for(operator)

    check(actor, "llama_cpp", {"backend_options": {**granted, "ctx_size": 1}}, before)
    check(actor, "llama_cpp", {"backend_options": {"tools": "all"}}, before)
    for change in ({"host": "::"}, {"tools": "exec"}, {"agent": ""}, {"model": "/other"}):
        with pytest.raises(PermissionDenied):
            check(actor, "llama_cpp", {"backend_options": {**granted, **change}}, before)


def test_an_owner_cannot_put_another_model_under_a_granted_trust_in_its_code(operator: User) -> None:
    granted = {"model": "org/name", "trust_remote_code": True}
    before = granted_instance(operator, "vllm", granted)
    actor = actor_for(operator)

    check(actor, "vllm", {"backend_options": {**granted, "seed": 1}}, before)
    check(actor, "vllm", {"backend_options": {"model": "org/other", "trust_remote_code": False}}, before)
    with pytest.raises(PermissionDenied) as caught:
        check(actor, "vllm", {"backend_options": {**granted, "model": "org/other"}}, before)
    assert list(caught.value.fields) == ["backend_options.trust_remote_code"]
