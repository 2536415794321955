"""``corral up``."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence

from portal.env import load_settings, unknown_variables
from portal.up.errors import StartError
from portal.up.manager import Manager
from portal.up.output import Output


def run_up(arguments: Sequence[str]) -> int:
    """Run everything until a signal; return 1 with one sentence on stderr when the start fails."""
    parser = argparse.ArgumentParser(
        prog="corral up",
        description="Start everything on this machine. Ctrl-C stops everything, models too; "
        "SIGTERM leaves the models running, and the next start takes them over.",
    )
    parser.parse_args(arguments)
    settings = load_settings()
    output = Output()
    for name in unknown_variables(os.environ):
        output.say(f"Warning: {name} is no setting of Corral and has no effect; `corral settings` lists them.")
    try:
        return asyncio.run(Manager(settings, output).run())
    except StartError as error:
        if str(error):
            print(f"corral: {error}", file=sys.stderr)
        return 1
