"""``python -m tests.engines.build [NAME...]``: make the real engines that the tests run, all of them by default."""

from __future__ import annotations

import argparse
import sys

from tests.engines.cache import EngineError, report
from tests.engines.llama_page import provide_llama_page
from tests.engines.llama_server import provide_llama_server
from tests.engines.mlx_server import provide_mlx_server
from tests.engines.models import provide_tiny_gguf, provide_tiny_hf

ENGINES = {
    "mlx_lm.server": provide_mlx_server,
    "tiny-gguf": provide_tiny_gguf,
    "tiny-hf": provide_tiny_hf,
    "llama-page": provide_llama_page,
    "llama-server": provide_llama_server,
}


def main(arguments: list[str]) -> int:
    """Make the engines that are missing; 1 when one of them can't be made."""
    parser = argparse.ArgumentParser(prog="python -m tests.engines.build", description="Make the engines of the tests.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(ENGINES)}; all by default")
    names = parser.parse_args(arguments).names or list(ENGINES)
    unknown = sorted(set(names) - set(ENGINES))
    if unknown:
        parser.error(f"unknown engine {unknown[0]}: choose from {', '.join(ENGINES)}")
    for name in names:
        try:
            report(f"{name}: {ENGINES[name]()}")
        except EngineError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
