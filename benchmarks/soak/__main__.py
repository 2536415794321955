"""``python -m benchmarks.soak --minutes 10 --clients 64``: the exit status is 0 when no answer was wrong.

Two web workers, four instances of which three may run at once, so that the mix of requests swaps them all the time; on
top of that instances are started, stopped and restarted, the worker is killed and Valkey restarted. A request may be
refused with 429, 502 or 503 and an error in JSON; a stream that has begun may break off, but so that its client sees
it; all else is a wrong answer: another status, another request's content, a missing piece, no answer in 60 s.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from benchmarks.soak import memory
from benchmarks.soak.clients import KINDS, MIX, Client
from benchmarks.soak.tally import Tally
from benchmarks.soak.trouble import Trouble
from tests.system.stack import ROOT, Stack, poll

MODELS = ["amber", "birch", "cedar", "dune"]
RUNNING = 3
ENGINE = ROOT / "benchmarks" / "soak" / "engine.py"


def start_stack(folder: Path) -> Stack:
    """A Corral with two web workers and the instances, none of which runs yet."""
    stack = Stack(
        folder,
        web_workers="2",
        max_running_instances=str(RUNNING),
        drain_timeout="30",
        on_demand_start_timeout="20",
    )
    stack.up()
    for name in MODELS:
        command = [sys.executable, str(ENGINE), "--port", "${PORT}"]
        body = {"backend_type": "command", "backend_options": {"command": command}, "idle_timeout": 0}
        answer = stack.api.post(f"/api/v1/instances/{name}", params={"start": "false"}, json=body)
        assert answer.status_code == 201, answer.text
    return stack


def make_key(stack: Stack) -> str:
    """An inference key of the administrator."""
    argv = [sys.executable, "-m", "portal.cli", "createkey", "soak", "--user", stack.environment["CORRAL_ADMIN_USER"]]
    done = subprocess.run(argv, cwd=ROOT, env=stack.environment, stdout=subprocess.PIPE, text=True, check=True)
    return next(word for word in done.stdout.split() if word.startswith("corral-"))


async def soak(stack: Stack, key: str, options: argparse.Namespace) -> tuple[Tally, Trouble, dict[str, float]]:
    """Let clients and trouble loose; returns what came of it and the most memory of each process."""
    tally, most = Tally(), dict[str, float]()
    address = f"http://127.0.0.1:{stack.port}"
    kinds = {kind: weight for kind, weight in MIX.items() if kind not in options.without}
    until = asyncio.get_running_loop().time() + options.minutes * 60
    trouble = Trouble(stack, MODELS, options.seed)
    clients = [Client(address, key, MODELS, tally, options.seed + number) for number in range(options.clients)]
    running = asyncio.gather(*(client.run(until, kinds) for client in clients), trouble.run(until))
    while not running.done():
        await asyncio.wait({running}, timeout=5)
        for name, size in (await asyncio.to_thread(memory.measure, stack)).items():
            most[name] = max(most.get(name, 0), size)
    running.result()
    return tally, trouble, most


def count_abandoned(stack: Stack) -> int:
    """Requests that engines still work on although no client is left; waits a little for it to become 0."""

    def count() -> int:
        running = [stack.get(name) for name in MODELS]
        ports = [instance["port"] for instance in running if instance["state"] == "ready"]
        return sum(httpx.get(f"http://127.0.0.1:{port}/stats").json()["active"] for port in ports)

    try:
        poll(lambda: count() == 0, what="the engines are idle")
    except AssertionError:
        return count()
    return 0


def report(tally: Tally, trouble: Trouble, seconds: float) -> None:
    """Print what happened."""
    print(f"\n{tally.total():,} requests in {seconds:.0f} s; {tally.total('answered'):,} answered as they should be.\n")
    print("| outcome | " + " | ".join(KINDS) + " |\n" + "|---" * (len(KINDS) + 1) + "|")
    for outcome in sorted({name for _, name in tally.counts}):
        print(f"| {outcome} | " + " | ".join(str(tally.counts[kind, outcome] or "") for kind in KINDS) + " |")
    print("\nMeanwhile: " + ", ".join(f"{name} {times}x" for name, times in sorted(trouble.done.items())) + ".")
    for text in [*tally.wrong, *trouble.wrong]:
        print(f"WRONG {text}")


def main() -> int:
    """Soak and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1, help="of the order of events")
    parser.add_argument("--without", action="append", default=[], choices=list(KINDS), help="leave a kind out")
    parser.add_argument("--output", type=Path, help="where to copy what `corral up` said")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="corral-") as name:
        stack = start_stack(Path(name))
        try:
            key = make_key(stack)
            for model in MODELS:
                assert stack.chat(model, id="first").status_code == 200
            time.sleep(3)
            before = memory.measure(stack)
            began = time.monotonic()
            tally, trouble, most = asyncio.run(soak(stack, key, options))
            report(tally, trouble, time.monotonic() - began)
            abandoned = count_abandoned(stack)
            time.sleep(5)
            memory.say_table(before, most, memory.measure(stack))
        finally:
            stack.down()
            stack.api.close()
            if options.output:
                options.output.write_text(stack.said())
    wrong = tally.total("WRONG") + len(trouble.wrong)
    print(f"\nWrong answers: {wrong}. Requests left at engines: {abandoned}.")
    return 1 if wrong or abandoned else 0


if __name__ == "__main__":
    sys.exit(main())
