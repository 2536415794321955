"""Which options only an administrator may set: stated here by name, so that a lost declaration is noticed."""

from __future__ import annotations

from typing import Any

import pytest

from instances.backends.base import OptionField, OptionKind, Risk
from instances.backends.registry import BACKENDS, get_backend

DANGEROUS = {
    "llama_cpp": """
        host path api_prefix webui_config webui_config_file api_key_file ssl_key_file ssl_cert_file log_file
        slot_save_path lookup_cache_dynamic media_path model_url mmproj_url docker_repo models_preset
    """,
    "vllm": """
        host uds root_path ssl_keyfile ssl_certfile ssl_ca_certs ssl_cert_reqs trust_remote_code middleware worker_class
        worker_use_ray engine_use_ray ray_workers_use_nsight distributed_executor_backend load_format
        model_loader_extra_config tokenizer_pool_size tokenizer_pool_type tokenizer_pool_extra_config
        compilation_config multi_modal_config override_neuron_config download_dir tool_server
    """,
    "mlx_lm": "host trust_remote_code",
}
CATALOGUE = [(engine, option) for engine in DANGEROUS for option in get_backend(engine).fields]
IDS = [f"{engine}.{option.name}" for engine, option in CATALOGUE]


def sample(option: OptionField) -> Any:
    """A value that says something, in the option's type."""
    if option.switch:
        return "on"
    if option.pair:
        return "1 2"
    text = {"host": "127.0.0.1", "api_prefix": "/llm"}.get(option.name, "a")
    return {OptionKind.BOOL: True, OptionKind.INT: 1, OptionKind.FLOAT: 1, OptionKind.LIST: [text]}.get(
        option.kind, text
    )


def refused(engine: str, raw: dict[str, Any]) -> list[str]:
    backend = get_backend(engine)
    return [privilege.option for privilege in backend.privileges_in(backend.normalize_options(raw).options)]


def test_the_table_names_only_what_is_in_the_catalogues() -> None:
    assert set(DANGEROUS) == {backend.type for backend in BACKENDS.values() if not backend.administrators_only}
    for engine, names in DANGEROUS.items():
        assert set(names.split()) <= {option.name for option in get_backend(engine).fields}


@pytest.mark.parametrize(("engine", "option"), CATALOGUE, ids=IDS)
def test_each_catalogued_option_is_an_administrators_or_not(engine: str, option: OptionField) -> None:
    is_dangerous = option.name in DANGEROUS[engine].split()

    assert (option.risk is not Risk.NONE) is is_dangerous
    expected = [option.name] if is_dangerous else []
    for name in (option.name, *option.aliases, option.long_flag):
        if get_backend(engine).normalize_options({name: sample(option)}).options.keys() == {option.name}:
            assert refused(engine, {name: sample(option)}) == expected
            assert refused(engine, {"extra_args": {name: sample(option)}}) == expected


@pytest.mark.parametrize(("engine", "option"), CATALOGUE, ids=IDS)
def test_what_says_no_needs_no_administrator(engine: str, option: OptionField) -> None:
    for value in (None, "", [], *{OptionKind.BOOL: (False, "false"), OptionKind.INT: (0,)}.get(option.kind, ())):
        assert refused(engine, {option.name: value}) == []


def test_what_operators_of_vllm_often_need_is_theirs_to_set_wherever_it_stands() -> None:
    wanted: dict[str, Any] = {
        "served_model_name": ["big", "small"], "enable_lora": True, "max_loras": 4, "max_lora_rank": 32,
        "enable_auto_tool_choice": True, "tool_call_parser": "hermes", "reasoning_parser": "qwen3",
        "generation_config": "vllm", "default_chat_template_kwargs": '{"enable_thinking":false}',
    }  # fmt: skip
    backend = get_backend("vllm")
    for raw in (wanted, {"extra_args": wanted}, {"extra_args": {f"--{key}": value for key, value in wanted.items()}}):
        options = backend.normalize_options(raw).options
        assert options == wanted
        assert backend.privileges_in(options) == []
        assert backend.files_named_by(options) == []
    assert backend.files_named_by({"generation_config": "/etc"}) == [("generation_config", "/etc")]


@pytest.mark.parametrize(
    "name",
    ["tool_parser_plugin", "reasoning_parser_plugin", "logits_processors", "worker_extension_cls", "kv_transfer_config",
     "data_parallel_address", "enable_prompt_embeds", "allowed_local_media_path", "otlp_traces_endpoint",
     "log_config_file", "hf_overrides", "trust_request_chat_template", "config", "speculative_config", "headless",
     "grpc"],
)  # fmt: skip
def test_what_loads_code_or_opens_vllm_stays_an_administrators(name: str) -> None:
    assert refused("vllm", {name: "x"}) == [f"extra_args.{name}"]


@pytest.mark.parametrize("engine", list(DANGEROUS))
@pytest.mark.parametrize(
    "name",
    ["tools", "--agent", "trust-remote", "trust_remote_cod", "log-fil", "ho", "TRUST_REMOTE_CODE", "model=/x", "O",
     "compilation-config.backend", "hf-overrides", "new-flag-of-next-week"],
)  # fmt: skip
def test_no_option_beyond_the_catalogue_is_let_through(engine: str, name: str) -> None:
    if "=" in name:
        with pytest.raises(ValueError, match="is not the name of a flag"):
            refused(engine, {name: "x"})
        return
    for raw in ({name: "x"}, {name: True}, {"extra_args": {name: ""}}, {"--extra-args": {name: ["x", "y"]}}):
        (option,) = refused(engine, raw)
        assert option.startswith("extra_args.")
    assert refused(engine, {name: False}) == []


@pytest.mark.parametrize(
    ("engine", "source"), [("vllm", "model"), ("vllm", "code_revision"), ("vllm", "tokenizer"), ("mlx_lm", "model")]
)
def test_code_of_a_model_is_approved_for_that_model_alone(engine: str, source: str) -> None:
    backend = get_backend(engine)
    approved, other = (
        backend.privileges_in({"model": "a/b", source: text, "trust_remote_code": True}) for text in ("a/b", "c/d")
    )
    assert approved == backend.privileges_in({"model": "a/b", source: "a/b", "trust_remote_code": True, "seed": 1})
    assert approved != other


@pytest.mark.parametrize(
    ("file", "repository"), [("model", "hf_repo"), ("model_draft", "hf_repo_draft"), ("model_vocoder", "hf_repo_v")]
)
def test_a_download_over_a_file_of_the_model_folders_is_an_administrators(file: str, repository: str) -> None:
    assert refused("llama_cpp", {repository: "a/b"}) == refused("llama_cpp", {file: "/m/a.gguf"}) == []
    assert refused("llama_cpp", {repository: "a/b", file: "/m/a.gguf"}) == [repository]


@pytest.mark.parametrize("prefix", ["/", "/llm", "/llm/", "/a/b-1._~"])
def test_a_plain_prefix_is_taken(prefix: str) -> None:
    assert get_backend("llama_cpp").normalize_options({"api_prefix": prefix}).options == {"api_prefix": prefix}


@pytest.mark.parametrize(
    "prefix",
    ["llm", "//host", "/a//b", "/..", "/a/../b", "/./a", "/a?b", "/a#b", "/a b", "/a%2e", "/a\n", "/a\r\nX: y", "/ä"],
)
def test_any_other_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="api_prefix: is not a path"):
        get_backend("llama_cpp").normalize_options({"api_prefix": prefix})
