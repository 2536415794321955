"""How long Corral takes to start, what it weighs, what it adds to an engine's start: ``python -m benchmarks.start``.

Prints three small tables. With ``--llama-server PATH --model FILE`` the first request is measured with a real engine
too; without them with the fake engine of the tests only.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil

from tests.system.stack import FAKE_ENGINE, Stack, free_port

ROUNDS = 7


def time_engine(argv: list[str]) -> float:
    """Return the seconds from starting an engine by hand until ``/health`` answers 200; it is ended afterwards."""
    port = free_port()
    began = time.perf_counter()
    process = subprocess.Popen(
        [*argv, "--port", str(port)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                    return time.perf_counter() - began
            except httpx.TransportError:
                time.sleep(0.002)
    finally:
        process.terminate()
        process.wait()


def time_first_byte(stack: Stack, name: str) -> float:
    """Return the seconds from a request to a stopped instance until the first byte of its streamed answer."""
    began = time.perf_counter()
    with stack.stream(name, max_tokens=1) as lines:
        next(lines)
        took = time.perf_counter() - began
    stack.act(name, "stop")
    return took


def measure_first_request(stack: Stack, label: str, name: str, argv: list[str]) -> None:
    """Print how much Corral adds to an engine's own start and first answer."""
    alone = statistics.median(time_engine(argv) for _ in range(ROUNDS))
    stack.chat(name, max_tokens=1)
    began = time.perf_counter()
    stack.chat(name, max_tokens=1)
    answer = time.perf_counter() - began
    stack.act(name, "stop")
    whole = statistics.median(time_first_byte(stack, name) for _ in range(ROUNDS))
    added = whole - alone - answer
    print(f"| {label} | {alone * 1000:.0f} | {answer * 1000:.0f} | {whole * 1000:.0f} | {added * 1000:.0f} |")


def measure_memory(stack: Stack) -> None:
    """Print the resident memory of each process of an idle ``corral up``."""
    assert stack.process is not None
    print("\n| process | RSS MB |\n|---|---|")
    total = 0.0
    for process in [psutil.Process(stack.process.pid), *psutil.Process(stack.process.pid).children(recursive=True)]:
        words = process.cmdline()
        name = (
            "valkey"
            if "valkey" in words[0]
            else words[words.index("--attached") - 1]
            if "--attached" in words
            else "up"
        )
        size = process.memory_info().rss / 2**20
        total += size
        print(f"| {name} | {size:.1f} |")
    print(f"| sum | {total:.1f} |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llama-server", type=Path)
    parser.add_argument("--model", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder))
        stack.up()
        stack.down()
        times = []
        for _ in range(3):
            began = time.perf_counter()
            stack.up()
            times.append(time.perf_counter() - began)
            said = [line for line in stack.said().splitlines() if "answers on" in line][-1]
            print(said.split("|", 1)[1].strip())
            if len(times) < 3:
                stack.down()
        print(f"\nstart until the worker is ready as well: {statistics.median(times):.1f} s (median of 3)")
        time.sleep(10)
        measure_memory(stack)
        print(
            "\n| engine | alone until ready, ms | an answer, ms | first byte from stopped, ms | added by Corral, ms |"
        )
        print("|---|---|---|---|---|")
        stack.create("fake")
        measure_first_request(stack, "fake", "fake", [sys.executable, "-I", "-S", str(FAKE_ENGINE)])
        if options.llama_server and options.model:
            engine = str(options.llama_server.resolve())
            measure_real(stack, engine, options.model)
        stack.down()


def measure_real(stack: Stack, engine: str, model: Path) -> None:
    """Measure llama-server as a command of its own: the stack's settings for llama.cpp are the fake engine's."""
    body = {
        "backend_type": "command",
        "backend_options": {"command": f"{engine} --port ${{PORT}} --model {model.resolve()} --alias ${{MODEL_ID}}"},
    }
    answer = stack.api.post("/api/v1/instances/real", params={"start": "false"}, json=body)
    assert answer.status_code == 201, answer.text
    measure_first_request(stack, "llama-server, tiny model", "real", [engine, "--model", str(model.resolve())])


if __name__ == "__main__":
    main()
