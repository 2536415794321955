"""mlx_lm.server: an argparse program without keys and without containers."""

from __future__ import annotations

from instances.backends.arguments import ArgumentStyle
from instances.backends.base import OptionField, OptionKind
from instances.backends.engine import FlagBackend
from instances.backends.mlx_lm.options import OPTIONS
from instances.backends.prefixes import CommandShape


class MlxLmBackend(FlagBackend):
    """MLX LM. It checks no API key, so it should only listen where the portal alone can reach it."""

    type = "mlx_lm"
    config_key = "mlx"
    label = "MLX"
    fields = OPTIONS
    code_sources = ("model", "draft_model", "adapter_path")
    style = ArgumentStyle(joins_dashed_values=True, uncatalogued=(OptionField("pipeline", OptionKind.BOOL),))
    shape = CommandShape(
        executables=("mlx_lm.server", "mlx_lm"), subcommands=("server",), modules=("mlx_lm.server", "mlx_lm")
    )
