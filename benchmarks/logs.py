"""10,000 lines/s of one engine to 20 viewers for 10 s through a whole Corral: ``python -m benchmarks.logs``.

A real ``corral up`` runs a chatty program as an instance. One process holds all viewers as WebSocket clients, one more
of which stops reading at once. Each line carries its number and when it was printed. The exit status is 0 when every
viewer got every line in order and neither web nor worker grew by more than a ring and a little: memory must not depend
on how much was sent.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
import psutil
from websockets.asyncio.client import connect

from tests.system.stack import ROOT, Stack

MOST_GROWTH_MB = 32.0
PARTS = ("web", "worker", "valkey")
SETTLE_S = 5.0

CHATTY = """
import signal, socket, sys, time
port, rate, total = map(int, sys.argv[1:])
listener = socket.create_server(("127.0.0.1", port))
start, number = time.monotonic(), 0
while number < total:
    due = min(int((time.monotonic() - start) * rate) + 1, total)
    stamp = time.time()
    for number in range(number, due):
        sys.stdout.write("%d %.6f slot 0: prompt processing, n_tokens = 512, t = 1.93 s" % (number, stamp) + chr(10))
    number = due
    sys.stdout.flush()
    time.sleep(0.005)
while True:
    signal.pause()
"""
"""Listens, so that it counts as ready, prints its lines and then stays, since an engine that ends is started again."""


@dataclass
class Received:
    """What one viewer saw; delays in milliseconds from the print in the engine to the decoded message."""

    lines: int = 0
    misplaced: int = 0
    gaps: int = 0
    delay_median: float = 0.0
    delay_most: float = 0.0
    printed_in: float = 0.0
    """Seconds between the prints of the first and the last line."""


@dataclass
class Usage:
    """What a process needed: resident memory in bytes, processor time in seconds."""

    before: int
    most: int
    processor: float
    after: int = 0


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def view(url: str, key: str, total: int, ready: asyncio.Semaphore) -> Received:
    """Be one viewer until the last line, or until nothing came for 10 s."""
    received, delays, stamps = Received(), [], []
    decoder = msgspec.json.Decoder()
    headers = {"Authorization": f"Bearer {key}"}
    async with connect(url, additional_headers=headers, compression=None, max_size=None) as viewer:
        # Corral looks for the log a moment after it has accepted the socket; the lines before that are asked for.
        ready.release()
        with suppress(TimeoutError):
            async with asyncio.timeout(60) as patience:
                while received.lines < total:
                    message = decoder.decode(await viewer.recv(decode=False))
                    patience.reschedule(asyncio.get_running_loop().time() + 10)
                    if message["type"] == "gap":
                        received.gaps += 1
                    lines = message.get("lines", [])
                    for _, _, text, _ in lines:
                        received.misplaced += int(text.split(" ", 1)[0]) != received.lines
                        received.lines += 1
                    if lines:
                        stamps.append(float(lines[-1][2].split(" ", 2)[1]))
                        delays.append((time.time() - stamps[-1]) * 1000)
    received.delay_median = statistics.median(delays) if delays else 0.0
    received.delay_most = max(delays, default=0.0)
    received.printed_in = stamps[-1] - stamps[0] if stamps else 0.0
    return received


async def stall(url: str, key: str, ready: asyncio.Semaphore) -> None:
    """Be a viewer that stops reading at once but stays."""
    headers = {"Authorization": f"Bearer {key}"}
    async with connect(url, additional_headers=headers, compression=None, max_size=None, max_queue=1, close_timeout=0):
        ready.release()
        await asyncio.Event().wait()


async def play_viewers(url: str, key: str, total: str, count: str, stalled: str) -> None:
    """Be the process of the viewers: say when all are connected, then what each of them saw."""
    ready = asyncio.Semaphore(0)
    stallers = [asyncio.create_task(stall(url, key, ready)) for _ in range(int(stalled))]
    tasks = [asyncio.create_task(view(url, key, int(total), ready)) for _ in range(int(count))]
    for _ in [*stallers, *tasks]:
        await ready.acquire()
    say("connected")
    received = await asyncio.gather(*tasks)
    for staller in stallers:
        staller.cancel()
    await asyncio.gather(*stallers, return_exceptions=True)
    say(json.dumps([asdict(viewer) for viewer in received]))


def make_instance(stack: Stack, rate: int, total: int) -> None:
    """Make the chatty program an instance, without starting it."""
    program = stack.data_dir / "chatty.py"
    program.write_text(CHATTY)
    command = [sys.executable, "-I", "-S", str(program), "${PORT}", str(rate), str(total)]
    body = {"backend_type": "command", "backend_options": {"command": command, "health_path": "none"}}
    answer = stack.api.post("/api/v1/instances/chatty", params={"start": "false"}, json=body)
    assert answer.status_code == 201, answer.text


def watch(parts: Mapping[str, psutil.Process], usage: Mapping[str, Usage], until: subprocess.Popen[str]) -> str:
    """Follow memory until the process of the viewers says what it saw; return that."""
    assert until.stdout is not None
    while not select.select([until.stdout], [], [], 0.1)[0]:
        for name, process in parts.items():
            usage[name].most = max(usage[name].most, process.memory_info().rss)
    return until.stdout.readline()


def measure(options: argparse.Namespace, stack: Stack) -> int:
    """Let viewers connect and the engine chat, print the table; the exit status."""
    total = int(options.rate * options.seconds)
    make_instance(stack, options.rate, total)
    parts = {name: stack.part(name) for name in PARTS}
    usage = {name: Usage(size := process.memory_info().rss, size, 0.0) for name, process in parts.items()}
    url = f"ws://127.0.0.1:{stack.port}/ws/instances/chatty/logs?lines=10000"
    details = [url, stack.management_key, str(total), str(options.viewers), str(options.stalled)]
    command = [sys.executable, "-m", "benchmarks.logs", "--role", *details]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as viewers:
        assert viewers.stdout is not None
        assert viewers.stdout.readline() == "connected\n", "the viewers could not connect"
        used = {name: sum(process.cpu_times()[:2]) for name, process in parts.items()}
        began = time.monotonic()
        assert stack.act("chatty", "start").status_code == 200, stack.said()
        received = [Received(**fields) for fields in json.loads(watch(parts, usage, viewers))]
        took = time.monotonic() - began
    for name, process in parts.items():
        usage[name].processor = (sum(process.cpu_times()[:2]) - used[name]) / took
    time.sleep(SETTLE_S)
    for name, process in parts.items():
        usage[name].after = process.memory_info().rss
    return report(received, usage, total, took)


def report(received: list[Received], usage: Mapping[str, Usage], total: int, took: float) -> int:
    """Print the table; 0 when nothing was lost or out of order and memory stayed bounded."""
    lost = sum(total - viewer.lines for viewer in received)
    misplaced = sum(viewer.misplaced for viewer in received)
    gaps = sum(viewer.gaps for viewer in received)
    printed_in = max(viewer.printed_in for viewer in received)
    rows = [
        ("lines printed by the engine", f"{total:,}"),
        ("lines printed per second", f"{total / printed_in:,.0f}" if printed_in else "-"),
        ("viewers", str(len(received))),
        ("from the start until the last viewer had the last line", f"{took:.1f} s"),
        ("lines delivered per second, all viewers", f"{sum(viewer.lines for viewer in received) / took:,.0f}"),
        ("lines lost / out of order / gaps", f"{lost} / {misplaced} / {gaps}"),
        ("delay, median of the slowest viewer", f"{max(viewer.delay_median for viewer in received):.0f} ms"),
        ("delay, worst of all", f"{max(viewer.delay_most for viewer in received):.0f} ms"),
    ]
    for name, used in usage.items():
        sizes = " / ".join(f"{size / 2**20:.1f}" for size in (used.before, used.most, used.after))
        rows.append((f"{name}: RSS before / at most / after, MB", sizes))
        rows.append((f"{name}: processor", f"{used.processor * 100:.0f} % of a core"))
    for title, value in rows:
        say(f"{title:<56}{value:>24}")
    growth = max((usage[name].most - usage[name].before) / 2**20 for name in ("web", "worker"))
    passed = not (lost or misplaced or gaps) and growth <= MOST_GROWTH_MB
    say("passed" if passed else "FAILED")
    return 0 if passed else 1


def run_benchmark(options: argparse.Namespace) -> int:
    """Start a Corral in a folder of its own and measure."""
    with tempfile.TemporaryDirectory(prefix="corral-") as folder:
        stack = Stack(Path(folder))
        stack.up()
        try:
            time.sleep(SETTLE_S)
            return measure(options, stack)
        finally:
            stack.down()
            stack.api.close()


def main(arguments: list[str]) -> int:
    """Run the benchmark, or be the process of its viewers."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.logs")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rate", type=int, default=10_000, help="lines per second")
    parser.add_argument("--viewers", type=int, default=20)
    parser.add_argument("--stalled", type=int, default=1, help="further viewers that read nothing")
    parser.add_argument("--role", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.role is None:
        return run_benchmark(options)
    asyncio.run(play_viewers(*options.role))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
