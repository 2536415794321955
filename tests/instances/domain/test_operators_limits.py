"""No option of any engine takes an operator out of the model folders or to code: generated from the option tables.

Each option that can hold a text gets what would name a file outside, in every spelling. It must be refused, unless it
stands below among those that mean something else: a new option has to be decided here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from accounts.domain.actors import actor_for
from accounts.models import User
from instances.backends.base import OptionField, OptionKind, ParseError
from instances.backends.normalize import EXTRA
from instances.backends.registry import BACKENDS, get_backend
from instances.domain.access import check_options_allowed
from instances.domain.options import read_options
from instances.errors import InvalidOptions, PermissionDenied

HARMLESS = {
    "llama_cpp": """
        cpu_mask cpu_range cpu_mask_batch cpu_range_batch flash_attn rope_scaling cache_type_k cache_type_v numa device
        override_tensor split_mode tensor_split fit fit_target override_kv control_vector_layer_range hf_repo
        hf_repo_draft hf_repo_v hf_token log_colors cache_type_k_draft cache_type_v_draft samplers sampling_seq
        dry_sequence_breaker logit_bias grammar json_schema reverse_prompt pooling override_tensor_draft alias api_key
        chat_template_kwargs reasoning_format chat_template device_draft spec_replace spec_type
    """,
    "mlx_lm": "log_level chat_template chat_template_args",
    "vllm": """
        revision code_revision tokenizer_revision tokenizer_mode config_format dtype kv_cache_dtype
        guided_decoding_backend quantization rope_scaling preemption_mode device speculative_model_quantization
        speculative_revision ignore_patterns uvicorn_log_level response_role tool_call_parser
        chat_template_content_format allowed_origins allowed_methods allowed_headers api_key task limit_mm_per_prompt
        override_pooling_config served_model_name runner convert model_impl override_generation_config lora_dtype
        scheduling_policy mamba_cache_dtype mamba_ssm_cache_dtype mm_encoder_tp_mode logprobs_mode reasoning_parser
        default_chat_template_kwargs
    """,
}
"""Options whose text the engine takes as words, numbers, names at a hub, or the thing itself; none is opened or run."""
TEXTS = (OptionKind.STR, OptionKind.LIST, OptionKind.MAP)
ENGINES = [backend for backend in BACKENDS.values() if not backend.administrators_only]
OPTIONS = [(backend.type, option) for backend in ENGINES for option in backend.fields if option.kind in TEXTS]
OUTSIDE = (
    "/etc/passwd",
    "../../etc/passwd",
    "~/.ssh/id_rsa",
    "{root}/../secret",
    "{root}/link.gguf",
    "{root}/sub/../../x",
)


def is_refused(operator: User, engine: str, options: dict[str, Any]) -> bool:
    """Whether an operator can't have these options: they may not, or nobody can."""
    try:
        wanted = read_options({"backend_type": engine, "backend_options": options})
    except InvalidOptions:
        return True
    try:
        check_options_allowed(actor=actor_for(operator), backend_type=engine, options=wanted.options)
    except PermissionDenied:
        return True
    return not wanted.options["backend_options"]  # it meant nothing and was dropped


def spellings(option: OptionField) -> list[str]:
    """Every way to write an option's name."""
    names = [option.name, *option.aliases]
    dashed = [name.replace("_", "-") for name in names]
    return list(
        dict.fromkeys(
            [*names, *dashed, option.long_flag, *(f"{dash}{name}" for name in dashed for dash in ("-", "--"))]
        )
    )


def sample(option: OptionField, text: str) -> Any:
    """The text as a value of the option."""
    if option.pair:
        return [text, text]
    return [text] if option.kind is OptionKind.LIST else text


@pytest.mark.parametrize(("engine", "option"), OPTIONS, ids=[f"{engine}.{option.name}" for engine, option in OPTIONS])
def test_no_option_names_what_lies_outside(
    operator: User, models_folder: Path, engine: str, option: OptionField
) -> None:
    if option.name in HARMLESS[engine].split():
        return
    for text in OUTSIDE:
        value = sample(option, text.replace("{root}", str(models_folder)))
        for name in spellings(option):
            for given in ({name: value}, {"extra_args": {name: value}}, {"--extra-args": {name: value}}):
                assert is_refused(operator, engine, given), (
                    f"{engine}: an operator may set {given}. Declare in the engine's options.py what {option.name} "
                    "names or risks; if it is neither a file nor an address nor code, add it to HARMLESS here."
                )


@pytest.mark.parametrize(("engine", "option"), OPTIONS, ids=[f"{engine}.{option.name}" for engine, option in OPTIONS])
def test_no_command_line_names_what_lies_outside(
    operator: User, models_folder: Path, engine: str, option: OptionField
) -> None:
    """What parse-command makes of a pasted command line is refused as if it had been written by hand."""
    if option.name in HARMLESS[engine].split():
        return
    program = {"llama_cpp": "llama-server", "vllm": "vllm serve", "mlx_lm": "mlx_lm.server"}[engine]
    flags = {option.long_flag, *(f"--{name}".replace("_", "-") for name in option.aliases)}
    flags |= {f"-{name}" for name in option.aliases}
    for flag in flags:
        for text in (
            f"{program} {flag} /etc/passwd",
            f"{program} {flag}=/etc/passwd",
            f"{program} {flag} '/etc/passwd' -c 1",
        ):
            try:
                parsed = get_backend(engine).parse_command(text)
            except ParseError:
                continue
            assert is_refused(operator, engine, parsed.options), text


@pytest.mark.parametrize("engine", [backend.type for backend in ENGINES])
def test_no_flag_beyond_the_catalogue_is_an_operators(operator: User, engine: str) -> None:
    for name in ("new_flag", "log-file2", "model.path", "O", "config"):
        for value in ("/etc/passwd", "x", "", True, ["a", "b"], {"a": "b"}):
            assert is_refused(operator, engine, {EXTRA: {name: value}})
            assert is_refused(operator, engine, {name: value})


def test_what_the_lists_name_is_there() -> None:
    assert set(HARMLESS) == {backend.type for backend in ENGINES}
    for engine, names in HARMLESS.items():
        assert set(names.split()) <= {option.name for option in get_backend(engine).fields}


@pytest.mark.parametrize("engine", [backend.type for backend in BACKENDS.values() if backend.administrators_only])
def test_an_engine_that_runs_any_program_is_not_an_operators(operator: User, engine: str) -> None:
    options = {"command": "sh -c 'id > /tmp/x' ${PORT}"}
    assert is_refused(operator, engine, options)
