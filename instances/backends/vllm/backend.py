"""`vllm serve`: the model's place, the keys, and flags that take several words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instances.backends.arguments import ArgumentStyle
from instances.backends.base import (
    Launch,
    ListForm,
    NormalizedOptions,
    OptionError,
    OptionField,
    OptionKind,
)
from instances.backends.commandline import CommandLineParser
from instances.backends.engine import FlagBackend
from instances.backends.fields import FieldIndex
from instances.backends.normalize import EXTRA
from instances.backends.prefixes import CommandShape
from instances.backends.vllm.options import NEWER, OPTIONS

_SHORT = "tp pp dp dcp pcp dpn dpr dpl dpa dpp dpb dph dpe dpm ep sc dc cc ac asc"
_SEVERAL_WORDS = (
    "allowed_media_domains collect_detailed_traces cpu_offload_params cudagraph_capture_sizes device_ids"
    " kv_cache_dtype_skip_layers logits_processors lora_target_modules numa_bind_cpus numa_bind_nodes offload_params"
    " sleep_preserve_parameter_names"
)
# What `vllm serve --help=all` of 0.32 lists as switches, beyond the catalogue and the prefixes below.
_NEWER_SWITCHES = (
    "aggregate_engine_logging allow_deprecated_quantization cohere_is_reasoning_model cudagraph_metrics"
    " data_parallel_external_lb data_parallel_hybrid_lb data_parallel_multi_port_external_lb dcp_q_replicate"
    " fail_on_environ_validation grpc headless jit_monitor_verbose kv_cache_metrics kv_sharing_fast_prefill"
    " log_error_stack long_prefill_token_threshold_adaptive mm_device_do_normalize mm_encoder_only numa_bind"
    " return_sampling_mask scheduler_reserve_full_isl sleep_mode_offload_cudagraph specialize_active_lora"
    " swa_bounded_replay tokens_only trust_request_chat_template trust_request_mm_kwargs use_fp64_gumbel use_replayssm"
    " use_tqdm_on_load"
)


class VllmBackend(FlagBackend):
    """vLLM. Its parser is argparse, with `_` and `-` alike in names and `--option.key value` for JSON options."""

    type = "vllm"
    config_key = "vllm"
    label = "vLLM"
    fields = (*OPTIONS, *NEWER)
    code_sources = (
        "model", "revision", "code_revision", "tokenizer", "tokenizer_revision", "speculative_model",
        "speculative_revision",
    )  # fmt: skip
    supports_docker = True
    serving_command = ("vllm", "serve")
    zero_is_a_crash = True  # its API server shuts down in good order when an EngineCore process was killed
    style = ArgumentStyle(
        joins_dashed_values=True,
        short_flags=frozenset(_SHORT.split()),
        uncatalogued=(
            *NEWER,  # not known to the parser of pasted commands
            *(OptionField(name, OptionKind.LIST, list_form=ListForm.WORDS) for name in _SEVERAL_WORDS.split()),
            *(OptionField(name, OptionKind.BOOL) for name in _NEWER_SWITCHES.split()),
            OptionField("disable_access_log_for_endpoints", OptionKind.STR),
        ),
        # All but one of the options with such a name are switches.
        bare_prefixes=("enable_", "disable_", "no_"),
    )
    shape = CommandShape(
        executables=("vllm",),
        subcommands=("serve",),
        modules=("vllm.entrypoints.openai.api_server", "vllm.entrypoints.cli.main", "vllm"),
    )

    def __init__(self) -> None:
        super().__init__()
        # llamactl's answers to pasted commands are a contract: what it doesn't know is in `extra_args` there.
        self._parser = CommandLineParser(FieldIndex(OPTIONS), self.style, self.shape, self.model_options)

    def normalize_options(self, raw: object) -> NormalizedOptions:
        """As for every engine; a model can't begin with a dash, since it stands alone on the command line."""
        normalized = super().normalize_options(unwrap_single_texts(raw))
        if str(normalized.options.get("model", "")).startswith("-"):
            raise OptionError("model", 'begins with "-"; write a repository id or a path')
        if "uds" in normalized.options:
            normalized.warnings.append("uds: vLLM then listens on no port, and the portal can't reach it; remove it")
        return normalized

    def arguments(self, options: Mapping[str, Any], launch: Launch, *, in_container: bool) -> list[str]:
        """The model first and without a flag, as `vllm serve` has it; as `--model` for the image's own entry point."""
        if in_container or "model" not in options:
            return super().arguments(options, launch, in_container=in_container)
        return [options["model"], *self._writer.write(options, leave_out=frozenset({"model"}))]

    def take_secrets(
        self, options: dict[str, Any], environment: Mapping[str, str], api_key: str | None
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """The run's key goes into VLLM_API_KEY, which holds one key and is ignored when `--api-key` is given.

        So once the user has keys of their own, all of them are arguments; nothing else makes vLLM accept both.
        """
        users_keys = options.get("api_key") or [key for key in (environment.get("VLLM_API_KEY"),) if key]
        if not users_keys:
            return options, {"VLLM_API_KEY": api_key} if api_key else {}
        return {**options, "api_key": [*users_keys, *([api_key] if api_key else [])]}, {}

    def served_model(self, options: Mapping[str, Any]) -> str | None:
        """The first served name, else the model."""
        names = options.get("served_model_name") or options.get(EXTRA, {}).get("served_model_name")
        first = names[0] if isinstance(names, list) and names else names
        return first if isinstance(first, str) and first else options.get("model")


def unwrap_single_texts(raw: object) -> object:
    """`raw` with the newer options of pasted commands as they are catalogued.

    There a value that looks like a switch's, such as `true`, is told apart from a switch by a list of one text.
    """
    extra = raw.get(EXTRA) if isinstance(raw, Mapping) else None
    if not isinstance(raw, Mapping) or not isinstance(extra, Mapping):
        return raw
    texts = {field.name for field in NEWER if field.kind is OptionKind.STR}
    single = {
        name: value[0] for name, value in extra.items() if name in texts and isinstance(value, list) and len(value) == 1
    }
    return {**raw, EXTRA: {**extra, **single}} if single else raw
