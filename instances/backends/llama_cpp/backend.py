"""llama-server: how it is called, its keys, and what it serves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from instances.backends.arguments import ArgumentStyle
from instances.backends.base import (
    Launch,
    NormalizedOptions,
    OptionError,
    OptionField,
    OptionKind,
    Privilege,
    Readiness,
)
from instances.backends.engine import FlagBackend
from instances.backends.llama_cpp.options import OPTIONS
from instances.backends.prefixes import CommandShape

# Flags newer than the catalogue that take no value, and those with several letters behind one dash.
_NEWER_SWITCHES = (
    "agent ag cache_idle_slots cors_credentials dflash eagle3 log_prefix mtp reasoning_preserve reuse_port"
    " show_timings skip_chat_parsing spec_default spec_draft_backend_sampling ui ui_mcp_proxy webui_mcp_proxy"
)
_SHORT = "ag cms cl co ctxcp fitp lm mmdev no-ag no-cnv Cd Crd Cbd Crbd rea sys sysf"
_URL_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+/?", re.ASCII)
# With both options llama-server downloads from the repository over the file.
_DOWNLOADED_OVER = (("model", "hf_repo"), ("model_draft", "hf_repo_draft"), ("model_vocoder", "hf_repo_v"))


class LlamaCppBackend(FlagBackend):
    """llama.cpp's server. Without a model and a repository it is a router that manages several models itself."""

    type = "llama_cpp"
    config_key = "llama-cpp"
    label = "llama.cpp"
    fields = OPTIONS
    supports_docker = True
    style = ArgumentStyle(
        joins_dashed_values=False,
        short_flags=frozenset(name.replace("-", "_") for name in _SHORT.split()),
        uncatalogued=tuple(OptionField(name, OptionKind.BOOL) for name in _NEWER_SWITCHES.split()),
        bare_prefixes=("no_",),
    )
    shape = CommandShape(executables=("llama-server",))
    model_options = ("model", "hf_repo", "model_url", "docker_repo", "models_dir", "models_preset")

    def normalize_options(self, raw: object) -> NormalizedOptions:
        """As for every engine.

        The prefix must be a path that can stand in a request line as it is (RFC 3986, 3.3), and a file of a repository
        one that can't lead out of the folder for downloads.
        """
        normalized = super().normalize_options(raw)
        for name in ("hf_file", "hf_file_v"):
            parts = str(normalized.options.get(name, "")).replace("\\", "/").split("/")
            if name in normalized.options and (parts[0] in ("", "~") or {".", ".."} & set(parts)):
                raise OptionError(name, "is not a file of a repository; write a name such as model-Q4_K_M.gguf")
        prefix = normalized.options.get("api_prefix", "/")
        if prefix != "/" and (not _URL_PATH.fullmatch(prefix) or {".", ".."} & set(prefix.split("/"))):
            raise OptionError(
                "api_prefix",
                'is not a path such as /llm; begin with "/" and use letters, digits and "-._~" between them',
            )
        return normalized

    def privileges_in(self, options: Mapping[str, Any]) -> list[Privilege]:
        """As for every engine, and a download that would replace a file of the model folders."""
        return super().privileges_in(options) + [
            Privilege(
                repository,
                (options[file], options[repository], options.get(repository.replace("repo", "file"))),
                f"with {file} it downloads over that file, so only an administrator may set both",
            )
            for file, repository in _DOWNLOADED_OVER
            if file in options and repository in options
        ]

    def arguments(self, options: Mapping[str, Any], launch: Launch, *, in_container: bool) -> list[str]:
        """The catalogue's flags, then the instance's own file of presets unless the options name another."""
        argv = super().arguments(options, launch, in_container=in_container)
        if launch.preset_path is not None and "models_preset" not in options:
            argv += ["--models-preset", str(launch.preset_path)]
        return argv

    def take_secrets(
        self, options: dict[str, Any], environment: Mapping[str, str], api_key: str | None
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """The user's keys and the run's go into LLAMA_API_KEY, divided by commas; the hub's token into HF_TOKEN."""
        rest = {name: value for name, value in options.items() if name not in ("api_key", "hf_token")}
        users_keys = options.get("api_key") or environment.get("LLAMA_API_KEY")
        keys = [key for key in (users_keys, api_key) if key]
        secrets = {"LLAMA_API_KEY": ",".join(keys)} if keys else {}
        if "hf_token" in options:
            secrets["HF_TOKEN"] = options["hf_token"]
        return rest, secrets

    def served_model(self, options: Mapping[str, Any]) -> str | None:
        """The first alias, else the model file, else the repository; None for a router, which reads the client's."""
        alias = str(options.get("alias", "")).partition(",")[0].strip()
        model: str | None = options.get("model") or options.get("hf_repo")
        return (alias or model) if model else None

    def readiness(self, options: Mapping[str, Any]) -> Readiness:
        """GET /health, behind the prefix when one is set; 503 while the model loads."""
        return Readiness(self.upstream_prefix(options) + "/health")

    def upstream_prefix(self, options: Mapping[str, Any]) -> str:
        """`--api-prefix` stands before every route."""
        prefix = str(options.get("api_prefix", "")).strip("/")
        return f"/{prefix}" if prefix else ""
