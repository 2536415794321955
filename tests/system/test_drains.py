"""Stops, swaps and the deaths of web processes while requests are in flight, with two web processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import httpx
import psutil
import pytest

from tests.system.conftest import StackFactory
from tests.system.stack import Stack, poll, texts

pytestmark = pytest.mark.any_database


@pytest.fixture
def pair(make_corral: StackFactory) -> Stack:
    """A Corral with two web processes and a drain time that no stream here needs."""
    corral = make_corral(web_workers="2", drain_timeout="60", max_running_instances="1")
    poll(lambda: len(web_processes(corral)) == 2, what="two web processes")
    return corral


def web_processes(corral: Stack) -> list[psutil.Process]:
    """The processes that answer requests: the children of the one that watches over them."""
    found = []
    for process in corral.part("web").children():
        try:
            if "spawn_main" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def connections_of(process: psutil.Process, port: int) -> int:
    """How many requests the process forwards to the engine at this port."""
    try:
        found = process.net_connections("tcp")
    except psutil.Error:
        return 0
    return sum(
        1
        for connection in found
        if connection.status == "ESTABLISHED" and connection.raddr and connection.raddr.port == port
    )


class Streams:
    """Streams of one instance, each over a connection of its own, read in threads."""

    def __init__(self, corral: Stack, name: str, tokens: int) -> None:
        self._corral, self._name, self._tokens = corral, name, tokens
        self._pool = ThreadPoolExecutor(16)
        self.begun = threading.Semaphore(0)
        self.running: list[Future[list[str]]] = []

    def _read(self) -> list[str]:
        body = {"model": self._name, "stream": True, "max_tokens": self._tokens, "messages": []}
        headers = self._corral.api.headers
        with (
            httpx.Client(base_url=self._corral.api.base_url, headers=headers, timeout=100) as client,
            client.stream("POST", "/v1/chat/completions", json=body) as answer,
        ):
            assert answer.status_code == 200, answer.read()
            lines = answer.iter_lines()
            first = next(lines)
            self.begun.release()
            return texts(iter([first, *lines]))

    def add(self, count: int) -> None:
        """Begin more of them and return when each has had its first words."""
        self.running += [self._pool.submit(self._read) for _ in range(count)]
        for _ in range(count):
            assert self.begun.acquire(timeout=60)


@contextmanager
def streams_over_both(corral: Stack, name: str, port: int, tokens: int) -> Iterator[Streams]:
    """Streams of which both web processes carry some."""
    streams = Streams(corral, name, tokens)
    for _ in range(8):
        streams.add(2)
        if all(connections_of(process, port) for process in web_processes(corral)):
            break
    assert all(connections_of(process, port) for process in web_processes(corral))
    with ExitStack() as stack:
        stack.callback(streams._pool.shutdown, wait=True)
        yield streams


def test_a_stop_lets_the_streams_of_both_web_processes_finish(pair: Stack) -> None:
    made = pair.run_now("streaming", flags={"stream_tokens": 600, "every": 0.1})
    with streams_over_both(pair, "streaming", made["port"], 80) as streams:
        began = time.monotonic()
        stopped = pair.act("streaming", "stop")
        assert stopped.json()["state"] == "stopped"
        assert time.monotonic() - began > 1
        pieces = [stream.result(timeout=60) for stream in streams.running]
    assert all(text[-1] == "[DONE]" and len(text) == 81 for text in pieces)
    assert not psutil.pid_exists(made["pid"])


def test_a_swap_lets_the_streams_of_both_web_processes_finish(pair: Stack) -> None:
    made = pair.run_now("outgoing", flags={"stream_tokens": 600, "every": 0.1})
    pair.create("incoming")
    with streams_over_both(pair, "outgoing", made["port"], 80) as streams:
        assert pair.chat("incoming").status_code == 200
        pieces = [stream.result(timeout=60) for stream in streams.running]
    assert all(text[-1] == "[DONE]" and len(text) == 81 for text in pieces)


def test_restarts_under_load_from_both_web_processes_lose_no_request(pair: Stack) -> None:
    """A request that arrives while the engine stops waits for the next run, in whichever process; none gets a 502."""
    pair.run_now("cycled", flags={"stream_tokens": 2})
    is_over = threading.Event()
    answers: list[tuple[int, str]] = []

    def keep_asking() -> None:
        body = {"model": "cycled", "messages": [{"role": "user", "content": "hello"}]}
        while not is_over.is_set():
            # A new connection each time, so that either process may have it.
            answer = httpx.post(
                f"http://127.0.0.1:{pair.port}/v1/chat/completions", json=body, headers=pair.api.headers, timeout=60
            )
            answers.append((answer.status_code, answer.text))

    with ThreadPoolExecutor(6) as pool:
        asking = [pool.submit(keep_asking) for _ in range(6)]
        for _ in range(4):
            assert pair.act("cycled", "restart").status_code == 200
            pair.wait_for("cycled", "ready")
        is_over.set()
        for task in asking:
            task.result(timeout=60)
    assert [answer for answer in answers if answer[0] != 200] == []
    assert len(answers) > 20


def test_killed_web_processes_hold_up_a_drain_for_their_heartbeat_and_no_longer(pair: Stack) -> None:
    made = pair.run_now("streaming", flags={"stream_tokens": 600, "every": 0.1})
    with streams_over_both(pair, "streaming", made["port"], 600) as streams, ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(pair.act, "streaming", "stop")
        pair.wait_for("streaming", "stopping")
        victims = web_processes(pair)
        for process in victims:
            process.kill()
        began = time.monotonic()
        poll(lambda: not psutil.pid_exists(made["pid"]), what="the engine's end")
        # Three seconds for the heartbeat, the rest for the engine's end; the drain would have taken a minute.
        assert time.monotonic() - began < 15
        assert stopping.exception(timeout=60) is not None  # its web process was one of the two
        for stream in streams.running:
            assert isinstance(stream.exception(timeout=60), httpx.HTTPError)
    poll(
        lambda: len({one.pid for one in web_processes(pair)} - {one.pid for one in victims}) == 2,
        what="new",
    )
    assert pair.wait_for("streaming", "stopped")["restart_count"] == 0
    assert pair.chat("streaming", max_tokens=1).status_code == 200


def test_streams_of_the_other_web_process_go_on_when_one_is_killed(pair: Stack) -> None:
    made = pair.run_now("streaming", flags={"stream_tokens": 600, "every": 0.1})
    with streams_over_both(pair, "streaming", made["port"], 60) as streams:
        victim, other = web_processes(pair)
        lost, kept = connections_of(victim, made["port"]), connections_of(other, made["port"])
        victim.kill()
        outcomes = [stream.exception(timeout=60) for stream in streams.running]
    assert sum(outcome is None for outcome in outcomes) == kept
    assert sum(isinstance(outcome, httpx.HTTPError) for outcome in outcomes) == lost
    assert pair.act("streaming", "stop").json()["state"] == "stopped"
