"""Resident memory by process."""

from __future__ import annotations

from contextlib import suppress

import psutil

from tests.system.stack import Stack


def name_process(process: psutil.Process, web: int) -> str:
    """What a process of ``corral up`` is, empty for what needn't be told."""
    words = process.cmdline()
    if any("resource_tracker" in word for word in words):
        return ""
    if process.ppid() == web:
        return "web worker"
    if words and "valkey" in words[0]:
        return "valkey"
    return words[words.index("--attached") - 1] if "--attached" in words else ""


def measure(stack: Stack) -> dict[str, float]:
    """MiB by name; web workers are numbered by age, engines left out."""
    assert stack.process is not None
    up = psutil.Process(stack.process.pid)
    web = stack.part("web").pid
    found: dict[str, float] = {"up": up.memory_info().rss / 2**20}
    for process in sorted(up.children(recursive=True), key=lambda process: process.pid):
        with suppress(psutil.Error):  # it may end while it is looked at
            name = name_process(process, web)
            if name == "web worker":
                name = f"web worker {sum(key.startswith(name) for key in found) + 1}"
            if name:
                found[name] = process.memory_info().rss / 2**20
    return found


def say_table(before: dict[str, float], most: dict[str, float], after: dict[str, float]) -> None:
    """Print them in Markdown."""
    print("\n| process | RSS before, MiB | most | after |\n|---|---|---|---|")
    for name, size in before.items():
        print(f"| {name} | {size:.1f} | {most.get(name, 0):.1f} | {after.get(name, 0):.1f} |")
