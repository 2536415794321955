"""A small inference server without a model, for tests: ``python -I -S tests/fakes/engine.py --port 9001 [flags]``.

It speaks HTTP as in `http_api.py` (see there for the paths) and misbehaves on demand. Flags that it doesn't know, and
positional arguments, are accepted and ignored, so it can stand in for llama-server, vllm and mlx_lm.server.

``--version``                    a line on stdout, as llama-server has it; nothing is started
``--port N``, ``--host H``       where it listens (127.0.0.1); it prints "listening on H:N" when it does
``--say TEXT``                   a line on stderr before anything else; may be repeated
``--listen-after S``             binds its port only then
``--ready-after S``              listens at once, answers 503 "Loading model" until then
``--never-ready``                answers 503 for ever
``--bind-failure``               says that the port is taken, exits with 1 (as it does when it really is)
``--crash-at-start``             says why on stderr, exits
``--crash-after S``              exits S seconds after its start
``--crash-times N --crash-count-file PATH``   crashes at start until it did so N times, counted in PATH; then works
``--exit-code N``                of all these crashes (default 1); a negative number is a signal it sends to itself
``--ignore-term``                SIGTERM is only noted in the output
``--term-delay S``               exits with 0 only S seconds after SIGTERM (default: at once)
``--fork-children``              leaves a child, a child in a session of its own and an orphan of a double fork, each
                                 ignoring SIGTERM if this process does; prints "child PID", "session PID", "orphan PID"
``--lines-per-second N --for S`` chats on stdout: "line <number>" (``--for`` default: for ever)
``--line-length N``              pads those lines with dots to N bytes
``--huge-line N``                writes one line of N bytes to stdout at start
``--stream-tokens N``            tokens of an answer unless the request says fewer (default 5)
``--every S``                    pause before each token (default 0)
``--answer-delay S``             pause before an answer begins
``--model NAME``, ``--alias``    the name in /v1/models (default "fake")
``--log-requests``               a line on stdout for each request

``LLAMA_API_KEY`` (several with commas between) or ``VLLM_API_KEY`` in the environment makes inference paths answer 401
without one of them as bearer token.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

# Isolated mode leaves this folder out of the module path.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from http_api import FakeApi, FakeServer


def parse_flags(arguments: list[str]) -> argparse.Namespace:
    """The flags above; what is unknown is left out."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--version", action="version", version="version: 1 (fake)")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--say", action="append", default=[])
    for name in ("listen-after", "ready-after", "every", "answer-delay", "term-delay"):
        parser.add_argument(f"--{name}", type=float, default=0.0)
    for name in ("never-ready", "bind-failure", "crash-at-start", "ignore-term", "fork-children", "log-requests"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--crash-after", type=float)
    parser.add_argument("--crash-times", type=int, default=0)
    parser.add_argument("--crash-count-file", type=Path)
    parser.add_argument("--exit-code", type=int, default=1)
    parser.add_argument("--lines-per-second", type=float, default=0.0)
    parser.add_argument("--for", dest="chat_seconds", type=float, default=float("inf"))
    parser.add_argument("--line-length", type=int, default=0)
    parser.add_argument("--huge-line", type=int, default=0)
    parser.add_argument("--stream-tokens", type=int, default=5)
    parser.add_argument("--model", "--alias", default="fake")
    return parser.parse_known_args(arguments)[0]


def write(text: str, descriptor: int = 1) -> None:
    """One line in one write, so that lines of several threads and processes don't mix."""
    os.write(descriptor, f"{text}\n".encode())


def crash(code: int) -> None:
    """Leave at once, without clean-up."""
    if code < 0:
        os.kill(os.getpid(), -code)
        signal.pause()
    os._exit(code)


def crash_as_told(flags: argparse.Namespace) -> None:
    """Crash at start when the flags say so."""
    due = flags.crash_at_start
    if flags.crash_times:
        count = int(flags.crash_count_file.read_text()) if flags.crash_count_file.exists() else 0
        due = count < flags.crash_times
        if due:
            flags.crash_count_file.write_text(str(count + 1))
    if due:
        write("loading the model", 2)
        write("error: failed to load model: no such tensor 'blk.0.attn_q.weight'", 2)
        crash(flags.exit_code)


def fork_children(ignores_term: bool) -> None:
    """Leave three kinds of descendants behind, and say their pids when they are as they should be."""
    handler = signal.signal(signal.SIGTERM, signal.SIG_IGN if ignores_term else signal.SIG_DFL)
    for name in ("child", "session", "orphan"):
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            if name == "session":
                os.setsid()
            if name == "orphan" and os.fork():
                os._exit(0)
            os.write(write_end, str(os.getpid()).encode())
            while True:
                signal.pause()
        if name == "orphan":
            os.waitpid(pid, 0)
        write(f"{name} {os.read(read_end, 16).decode()}")
        os.close(read_end)
        os.close(write_end)
    signal.signal(signal.SIGTERM, handler)


def chat(flags: argparse.Namespace) -> None:
    """Write lines at the rate asked for, and as many as that makes in the time, however late."""
    start = time.monotonic()
    number = 0
    last = flags.chat_seconds * flags.lines_per_second
    while number < last:
        due = int(min((time.monotonic() - start) * flags.lines_per_second + 1, last))
        lines = (f"line {index}".ljust(flags.line_length, ".") for index in range(number, due))
        if text := "\n".join(lines):
            write(text)
        number = max(number, due)
        time.sleep(min(0.01, 1 / flags.lines_per_second))


def stop_on_term(flags: argparse.Namespace) -> None:
    """Answer SIGTERM as the flags say."""

    def stop(number: int, frame: object) -> None:
        if flags.ignore_term:
            write("SIGTERM is ignored")
            return
        write("stopping")
        if flags.term_delay:
            threading.Timer(flags.term_delay, os._exit, (0,)).start()
        else:
            os._exit(0)

    signal.signal(signal.SIGTERM, stop)


def read_keys(environ: Mapping[str, str]) -> list[str]:
    """The keys that open inference, none when everybody may: llama-server takes several, vLLM one."""
    return [key for key in [*environ.get("LLAMA_API_KEY", "").split(","), environ.get("VLLM_API_KEY", "")] if key]


def main(arguments: list[str]) -> None:
    """Serve until a signal or a flag ends it."""
    flags = parse_flags(arguments)
    for line in flags.say:
        write(line, 2)
    if flags.huge_line:
        write("x" * flags.huge_line)
    if flags.bind_failure:
        write(f"couldn't bind HTTP server socket, hostname: {flags.host}, port: {flags.port}", 2)
        sys.exit(1)
    crash_as_told(flags)
    stop_on_term(flags)
    if flags.fork_children:
        fork_children(flags.ignore_term)
    if flags.crash_after is not None:
        threading.Timer(flags.crash_after, crash, (flags.exit_code,)).start()
    if flags.lines_per_second:
        threading.Thread(target=chat, args=(flags,), daemon=True).start()
    ready_at = float("inf") if flags.never_ready else time.monotonic() + flags.ready_after
    time.sleep(flags.listen_after)
    api = FakeApi(
        model=flags.model,
        api_keys=read_keys(os.environ),
        ready_at=ready_at,
        tokens=flags.stream_tokens,
        token_pause=flags.every,
        answer_delay=flags.answer_delay,
        log=write if flags.log_requests else None,
    )
    try:
        server = FakeServer((flags.host, flags.port), api)
    except OSError:
        write(f"couldn't bind HTTP server socket, hostname: {flags.host}, port: {flags.port}", 2)
        sys.exit(1)
    write(f"listening on {flags.host}:{server.server_port}")
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
