"""The tables in Markdown, for docs/performance.md."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gateway.cases import Plan, Rounds


def say(text: str) -> None:
    """Print at once."""
    print(text, flush=True)


def describe_machine() -> str:
    """One line about where this ran."""
    model = "unknown processor"
    information = Path("/proc/cpuinfo")
    if information.exists():
        names = [line.split(":", 1)[1].strip() for line in information.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} cores ({model}), {system}, load average at the start {load}"


class Table:
    """Rows of one number per contestant, and how the subject compares with the yardstick."""

    def __init__(self, names: Sequence[str], *, subject: str, base: str) -> None:
        self.names, self.subject, self.base = names, subject, base
        say(f"\n| | {' | '.join(names)} | {subject} / {base} | in the rounds | expected |")
        say("|---" * (len(names) + 4) + "|")

    def add(self, title: str, rounds: Rounds, key: str, form: str, expected: str = "") -> None:
        """Print a row: medians over the rounds; the ratio is the median of the rounds' own ratios."""
        cells = []
        for name in self.names:
            known = name in rounds.numbers and all(key in numbers for numbers in rounds.numbers[name])
            cells.append(format(rounds.median(name, key), form) if known else "")
        ratios = rounds.ratios(self.subject, self.base, key)
        middle = (ratios[(len(ratios) - 1) // 2] + ratios[len(ratios) // 2]) / 2
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        say(f"| {title} | {' | '.join(cells)} | {middle:.2f} | {spread} | {expected} |")


def describe_plan(plan: Plan) -> str:
    """How the numbers came about."""
    return (
        f"{plan.rounds} rounds in which the contestants take turns, {plan.seconds:g} s each; medians. Everything is on "
        "the loopback of one machine, nothing is pinned to a core: engine, load and contestant share all cores."
    )
