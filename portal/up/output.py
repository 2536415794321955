"""What ``corral up`` writes: the lines of its parts, each behind the part's name, coloured on a terminal."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TextIO

#: ANSI colours (ECMA-48 SGR) given to the parts in the order of their start.
COLOURS = (36, 33, 35, 32, 34)
LABEL_WIDTH = 6
#: Bytes of a line after which it is cut, so that a part without line ends can't fill the manager's memory.
LINE_LIMIT = 64 * 1024


class Output:
    """Writes whole lines to one stream; a reader that went away (a closed pipe) is no reason to stop."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout
        self.is_coloured = self.stream.isatty() and "NO_COLOR" not in os.environ
        self._colours: dict[str, int] = {}

    def write(self, label: str, line: str) -> None:
        """Write one line of the part named ``label``."""
        head = f"{label:<{LABEL_WIDTH}} | "
        if self.is_coloured:
            colour = self._colours.setdefault(label, COLOURS[len(self._colours) % len(COLOURS)])
            head = f"\x1b[{colour}m{head}\x1b[0m"
        self._print(head + line)

    def say(self, line: str) -> None:
        """Write one line of the manager itself."""
        self.write("corral", line)

    def _print(self, text: str) -> None:
        try:
            print(text, file=self.stream, flush=True)
        except (BrokenPipeError, OSError):
            self.stream = Path(os.devnull).open("w")  # noqa: SIM115  lives as long as the process

    async def copy(self, label: str, reader: asyncio.StreamReader, muted: tuple[str, ...] = ()) -> None:
        """Write the lines of ``reader`` until it ends, except those that hold one of ``muted``."""
        while True:
            try:
                data = await reader.readuntil(b"\n")
            except asyncio.IncompleteReadError as error:
                data = error.partial
            except asyncio.LimitOverrunError as error:
                data = await reader.readexactly(max(error.consumed, 1))
            if not data:
                return
            line = decode(data)
            if line and not any(text in line for text in muted):
                self.write(label, line)


def decode(data: bytes) -> str:
    """Return a line's text without its end."""
    return data.decode(errors="replace").rstrip("\r\n")
