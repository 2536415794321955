"""The copy of a run's log from its file into Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import pairwise
from pathlib import Path

import pytest
import redis.asyncio

from instances.logs import pump as pump_module
from instances.logs.pump import LogPump
from instances.logs.records import Decoder, join_pieces
from instances.logs.stream import KEPT_BYTES, MAX_CHUNK, Entry, read_entries, stream_key
from tests.instances.logs.conftest import RunLog, Valkey

RUN = 7


@pytest.fixture
def log(tmp_path: Path) -> RunLog:
    return RunLog(tmp_path / "logs" / "llama" / f"{RUN}.log")


@pytest.fixture
async def start(client: redis.asyncio.Redis, log: RunLog) -> AsyncIterator[Callable[[], LogPump]]:
    tasks: list[asyncio.Task[None]] = []

    def begin() -> LogPump:
        pump = LogPump(client, RUN, log.path)
        tasks.append(asyncio.create_task(pump.run()))
        return pump

    yield begin
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def read_all(client: redis.asyncio.Redis) -> list[Entry]:
    entries: list[Entry] = []
    after = 0
    while found := await read_entries(client, RUN, after, 100):
        entries += found
        if found[-1].is_end:
            break
        after = found[-1].end
    return entries


def texts(entries: list[Entry]) -> list[str]:
    return [line.text for line in join_pieces(Decoder().decode(b"".join(entry.data for entry in entries)))]


def are_gapless(entries: list[Entry]) -> bool:
    return all(one.end == other.start for one, other in pairwise(entries))


async def wait_until(question: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    for _ in range(int(seconds / 0.02)):
        if await question():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come true")


async def arrive(client: redis.asyncio.Redis, log: RunLog, end: int | None = None) -> None:
    wanted = log.path.stat().st_size if end is None else end

    async def has_arrived() -> bool:
        entries = await client.xrevrange(stream_key(RUN), "+", "-", count=1)
        return bool(entries) and int(entries[0][0].partition(b"-")[0]) >= wanted

    await wait_until(has_arrived)


async def test_lines_arrive_in_order_in_chunks_cut_at_line_ends(
    client: redis.asyncio.Redis, start: Callable[[], LogPump], log: RunLog
) -> None:
    start()
    for first in range(0, 10_000, 1000):
        log.write_lines(first, 1000)
        await asyncio.sleep(0.01)
    await arrive(client, log)
    entries = await read_all(client)
    assert are_gapless(entries)
    assert entries[0].start == 0
    assert all(len(entry.data) <= MAX_CHUNK and entry.data.endswith(b"\n") for entry in entries)
    assert texts(entries) == [f"line {number}" for number in range(10_000)]


async def test_a_line_of_10_megabytes_arrives_in_pieces(
    client: redis.asyncio.Redis, start: Callable[[], LogPump], log: RunLog
) -> None:
    start()
    log.write("x" * 5_000_000)
    await arrive(client, log)
    log.write("x" * 5_000_000 + "\nafter\n")
    await arrive(client, log)
    entries = await read_all(client)
    assert are_gapless(entries)
    assert texts(entries)[-1] == "after"
    assert (
        log.path.stat().st_size - KEPT_BYTES - MAX_CHUNK
        <= entries[0].start
        <= log.path.stat().st_size - KEPT_BYTES + MAX_CHUNK
    )


async def test_the_stream_keeps_about_the_last_8_megabytes(
    client: redis.asyncio.Redis, start: Callable[[], LogPump], log: RunLog
) -> None:
    start()
    log.write_lines(0, 10_000)
    await arrive(client, log)
    for first in range(10_000, 300_000, 10_000):
        log.write_lines(first, 10_000)
    await arrive(client, log)
    entries = await read_all(client)
    held = entries[-1].end - entries[0].start
    assert KEPT_BYTES <= held <= KEPT_BYTES + 4 * MAX_CHUNK


async def test_a_pump_that_starts_late_begins_8_megabytes_before_the_end(
    client: redis.asyncio.Redis, start: Callable[[], LogPump], log: RunLog
) -> None:
    for first in range(0, 300_000, 10_000):
        log.write_lines(first, 10_000)
    start()
    await arrive(client, log)
    entries = await read_all(client)
    assert log.path.stat().st_size - entries[0].start <= KEPT_BYTES
    lines = texts(entries)
    assert lines[-1] == "line 299999"
    assert lines[0] == f"line {300_000 - len(lines)}"


async def test_rotation_while_pumping_loses_nothing(
    client: redis.asyncio.Redis, start: Callable[[], LogPump], tmp_path: Path
) -> None:
    log = RunLog(tmp_path / "logs" / "llama" / f"{RUN}.log", max_bytes=10_000)
    pump = start()
    for first in range(0, 5000, 50):
        log.write_lines(first, 50)
        await asyncio.sleep(0.003)
    log.close()
    assert await pump.finish()
    entries = await read_all(client)
    assert len(list(log.path.parent.iterdir())) > 10
    assert entries[-1].is_end
    assert are_gapless(entries)
    assert texts(entries) == [f"line {number}" for number in range(5000)]


async def test_a_new_pump_goes_on_where_the_old_one_was_killed(client: redis.asyncio.Redis, log: RunLog) -> None:
    log.write_lines(0, 1000)
    first = LogPump(client, RUN, log.path)
    task = asyncio.create_task(first.run())
    await arrive(client, log)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    log.write_lines(1000, 1000)
    assert await LogPump(client, RUN, log.path).finish()
    entries = await read_all(client)
    assert are_gapless(entries)
    assert texts(entries) == [f"line {number}" for number in range(2000)]


async def test_two_pumps_at_once_write_every_line_once(
    client: redis.asyncio.Redis, start: Callable[[], LogPump], log: RunLog
) -> None:
    pumps = [start(), start()]
    for first in range(0, 5000, 100):
        log.write_lines(first, 100)
        await asyncio.sleep(0.005)
    log.close()
    assert all(await asyncio.gather(*(pump.finish() for pump in pumps)))
    entries = await read_all(client)
    assert are_gapless(entries)
    assert texts(entries) == [f"line {number}" for number in range(5000)]
    assert await client.xlen(stream_key(RUN)) == len(entries)


async def test_finish_copies_the_rest_marks_the_end_once_and_lets_the_stream_expire(
    client: redis.asyncio.Redis, start: Callable[[], LogPump], log: RunLog
) -> None:
    pump = start()
    log.write_lines(0, 10)
    log.write("last words")
    log.close()
    with log.path.open("ab") as file:
        file.write(b"2026-11-20T23:39:17.123456789Z stdout F torn")
    assert await pump.finish()
    assert await pump.finish()
    assert await LogPump(client, RUN, log.path).finish()
    entries = await read_all(client)
    assert [entry.is_end for entry in entries].count(True) == 1
    assert entries[-1].end == log.path.stat().st_size
    assert texts(entries)[-2:] == ["last words", "torn"]
    assert 3500 < await client.ttl(stream_key(RUN)) <= 3600


async def test_a_run_without_a_line_ends_too(
    client: redis.asyncio.Redis, start: Callable[[], LogPump], log: RunLog
) -> None:
    assert await start().finish()
    assert [(entry.end, entry.is_end) for entry in await client_entries(client)] == [(0, True)]


async def client_entries(client: redis.asyncio.Redis) -> list[Entry]:
    return await read_entries(client, RUN, 0, 10)


async def test_a_redis_that_was_killed_and_forgot_is_filled_again(
    client: redis.asyncio.Redis,
    start: Callable[[], LogPump],
    log: RunLog,
    valkey: Valkey,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pump_module, "RETRY_S", 0.05)
    pump = start()
    log.write_lines(0, 1000)
    await arrive(client, log)
    valkey.kill()
    log.write_lines(1000, 1000)
    await asyncio.sleep(0.3)
    valkey.start()
    log.write_lines(2000, 1000)
    log.close()
    assert await pump.finish()
    entries = await read_all(client)
    assert are_gapless(entries)
    assert texts(entries) == [f"line {number}" for number in range(3000)]


async def test_a_silent_engine_gets_its_stream_back_too(
    client: redis.asyncio.Redis, start: Callable[[], LogPump], log: RunLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pump_module, "CHECK_S", 0.1)
    start()
    log.write_lines(0, 10)
    await arrive(client, log)
    await client.delete(stream_key(RUN))
    await arrive(client, log)
    assert texts(await read_all(client)) == [f"line {number}" for number in range(10)]


async def test_finish_gives_up_when_redis_stays_away(
    client: redis.asyncio.Redis,
    start: Callable[[], LogPump],
    log: RunLog,
    valkey: Valkey,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pump_module, "RETRY_S", 0.05)
    valkey.kill()
    try:
        assert not await LogPump(client, RUN, log.path).finish(timeout_s=0.3)
    finally:
        valkey.start()


async def test_a_cancelled_pump_ends_whatever_it_is_doing(valkey: Valkey, log: RunLog) -> None:
    log.write_lines(0, 1000)
    for turns in range(150):
        fresh = redis.asyncio.Redis.from_url(valkey.url, socket_timeout=60)
        task = asyncio.create_task(LogPump(fresh, RUN + turns, log.path).run())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        finished, _ = await asyncio.wait({task}, timeout=30)
        await fresh.aclose()
        assert finished, f"cancelled after {turns} turns of the loop it went on"
