"""Followers of one process: cursors, gaps, outages, slow ones, the next run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import redis.asyncio
from django.utils import timezone
from pytest_django import Settings

from instances.logs import feed as feed_module
from instances.logs import follower as follower_module
from instances.logs.access import LogAccess
from instances.logs.database import run_query
from instances.logs.follower import Follower
from instances.logs.hub import LogHub
from instances.logs.items import Gap, Item, LogChunk, RunBegins, RunEnds
from instances.logs.pump import LogPump
from instances.logs.reader import describe_runs
from instances.logs.records import Cursor, Decoder, join_pieces
from instances.logs.stream import stream_key
from instances.models import Instance, Node, Run
from tests.instances.logs.conftest import StartPump, StartRun, Valkey

Follow = Callable[[Cursor | None], Awaitable[Follower]]


@pytest.fixture
async def follow(hub: LogHub, instance: Instance, tmp_path: Path) -> AsyncIterator[Follow]:
    """Return a function that follows the instance from a cursor on; None: from the first run on."""
    followers: list[Follower] = []
    folder = tmp_path / "logs" / instance.name

    async def begin(cursor: Cursor | None = None) -> Follower:
        runs = await run_query(describe_runs, [cursor.run_id] if cursor else [])
        follower = hub.follow(LogAccess(instance.pk, folder, runs, cursor))
        followers.append(follower)
        return follower

    yield begin
    for follower in followers:
        follower.close()


async def collect(follower: Follower, until: str | type[Item], seconds: float = 60) -> list[Item]:
    """Return items up to the one that holds the line, or is of the type."""
    items: list[Item] = []
    async with asyncio.timeout(seconds):
        while item := await follower.next():
            items.append(item)
            if isinstance(until, str):
                if isinstance(item, LogChunk) and f" {until}\n".encode() in item.data:
                    return items
            elif isinstance(item, until):
                return items
    raise AssertionError("the instance was deleted")


def texts(items: list[Item]) -> list[str]:
    return [
        line.text for line in join_pieces(Decoder().decode(b"".join(i.data for i in items if isinstance(i, LogChunk))))
    ]


def numbered(first: int, count: int) -> list[str]:
    return [f"line {number}" for number in range(first, first + count)]


async def test_a_follower_gets_every_line_once_and_in_order(
    start_run: StartRun, pump: StartPump, follow: Follow
) -> None:
    run, log = await run_query(start_run)
    pump(run, log)
    follower = await follow(Cursor(run.pk, 0))
    for first in range(0, 10_000, 500):
        log.write_lines(first, 500)
        await asyncio.sleep(0.01)
    assert texts(await collect(follower, "line 9999")) == numbered(0, 10_000)


async def test_all_followers_of_a_run_share_one_reader_and_its_chunks(
    start_run: StartRun, pump: StartPump, follow: Follow, hub: LogHub
) -> None:
    run, log = await run_query(start_run)
    pump(run, log)
    followers = [await follow(Cursor(run.pk, 0)) for _ in range(5)]
    log.write_lines(0, 100)
    await asyncio.gather(*(collect(follower, "line 99") for follower in followers))
    # By now the shared reader has begun; what was written before it did, each may have fetched by itself.
    log.write_lines(100, 100)
    received = await asyncio.gather(*(collect(follower, "line 199") for follower in followers))
    assert hub.followed_runs == [run.pk]
    assert len({id(items[-1]) for items in received}) == 1
    for follower in followers:
        follower.close()
    assert hub.followed_runs == []


async def test_a_cursor_goes_on_without_gap_or_repetition(start_run: StartRun, pump: StartPump, follow: Follow) -> None:
    run, log = await run_query(start_run)
    pump(run, log)
    first = await follow(Cursor(run.pk, 0))
    log.write_lines(0, 1000)
    seen = await collect(first, "line 999")
    first.close()
    log.write_lines(1000, 1000)
    second = await follow(seen[-1].cursor)
    assert texts(await collect(second, "line 1999")) == numbered(1000, 1000)


async def test_a_cursor_in_the_middle_of_a_chunk_gets_the_rest_of_it(
    start_run: StartRun, pump: StartPump, follow: Follow, client: redis.asyncio.Redis
) -> None:
    run, log = await run_query(start_run)
    log.write_lines(0, 10)
    pump(run, log)
    middle = log.path.read_bytes().index(b"line 4\n") + len(b"line 4\n")
    live = await follow(Cursor(run.pk, 0))
    await collect(live, "line 9")
    assert texts(await collect(await follow(Cursor(run.pk, middle)), "line 9")) == numbered(5, 5)


async def test_a_local_follower_behind_the_stream_reads_the_file(
    start_run: StartRun, pump: StartPump, follow: Follow, client: redis.asyncio.Redis
) -> None:
    run, log = await run_query(start_run)
    for first in range(0, 300_000, 10_000):
        log.write_lines(first, 10_000)
    pump(run, log)
    items = await collect(await follow(Cursor(run.pk, 0)), "line 299999")
    assert texts(items) == numbered(0, 300_000)


async def test_a_follower_on_another_host_is_told_how_much_is_gone(
    start_run: StartRun, pump: StartPump, follow: Follow, settings: Settings
) -> None:
    run, log = await run_query(start_run)
    for first in range(0, 300_000, 10_000):
        log.write_lines(first, 10_000)
    pump(run, log)
    settings.CORRAL = type(settings.CORRAL)(
        **{name: getattr(settings.CORRAL, name) for name in ("redis_url", "data_dir")}, node="elsewhere"
    )
    items = await collect(await follow(Cursor(run.pk, 0)), "line 299999")
    gaps = [item for item in items if isinstance(item, Gap)]
    lines = texts(items)
    assert len(gaps) == 1
    assert gaps[0].size == gaps[0].cursor.offset > 1_000_000
    assert lines == numbered(300_000 - len(lines), len(lines))
    assert gaps[0].size + sum(len(i.data) for i in items if isinstance(i, LogChunk)) == log.path.stat().st_size


async def test_rotated_parts_that_were_deleted_are_a_gap(
    start_run: StartRun, pump: StartPump, follow: Follow, client: redis.asyncio.Redis
) -> None:
    run, log = await run_query(lambda: start_run(max_bytes=100_000, max_files=2))
    for first in range(0, 300_000, 1000):
        log.write_lines(first, 1000)
    pump(run, log)
    items = await collect(await follow(Cursor(run.pk, 0)), "line 299999")
    assert [type(item) for item in items[:3]] == [RunBegins, Gap, LogChunk]
    lines = texts(items)
    assert lines == numbered(300_000 - len(lines), len(lines))


async def test_rotation_while_following_loses_nothing(start_run: StartRun, pump: StartPump, follow: Follow) -> None:
    run, log = await run_query(lambda: start_run(max_bytes=10_000))
    pump(run, log)
    follower = await follow(Cursor(run.pk, 0))
    following = asyncio.create_task(collect(follower, "line 4999"))
    for first in range(0, 5000, 50):
        log.write_lines(first, 50)
        await asyncio.sleep(0.003)
    assert texts(await following) == numbered(0, 5000)


async def test_followers_go_on_without_loss_after_redis_was_killed(
    start_run: StartRun, pump: StartPump, follow: Follow, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, log = await run_query(start_run)
    pump(run, log)
    follower = await follow(Cursor(run.pk, 0))
    log.write_lines(0, 1000)
    before = await collect(follower, "line 999")
    valkey.kill()
    log.write_lines(1000, 1000)
    await asyncio.sleep(0.5)
    valkey.start()
    log.write_lines(2000, 1000)
    after = await collect(follower, "line 2999")
    assert not any(isinstance(item, Gap) for item in after)
    assert texts(before + after) == numbered(0, 3000)


async def test_a_follower_on_another_host_survives_a_redis_that_forgot(
    start_run: StartRun, pump: StartPump, follow: Follow, valkey: Valkey, instance: Instance
) -> None:
    run, log = await run_query(start_run)
    await run_query(Run.objects.filter(pk=run.pk).update, node=await run_query(Node.objects.create, name="far"))
    pump(run, log)
    follower = await follow(Cursor(run.pk, 0))
    log.write_lines(0, 1000)
    before = await collect(follower, "line 999")
    valkey.kill()
    log.write_lines(1000, 1000)
    valkey.start()
    after = await collect(follower, "line 1999")
    assert texts(before + after) == numbered(0, 2000)
    assert not any(isinstance(item, Gap) for item in after)


async def test_a_follower_that_stops_reading_holds_up_nobody_and_costs_no_more_than_the_ring(
    start_run: StartRun, pump: StartPump, follow: Follow, hub: LogHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "RING_BYTES", 256 * 1024)
    run, log = await run_query(start_run)
    pump(run, log)
    lazy, eager = await follow(Cursor(run.pk, 0)), await follow(Cursor(run.pk, 0))
    log.write_lines(0, 10)
    await collect(lazy, "line 9")
    following = asyncio.create_task(collect(eager, "line 99999"))
    for first in range(10, 100_000, 9999):
        log.write_lines(first, 9999)
        await asyncio.sleep(0.02)
    assert texts(await following) == numbered(0, 100_000)
    feed = hub.acquire_feed(run.pk, lambda: None)
    assert sum(chunk.cost for chunk in feed._chunks) <= 256 * 1024 + 2 * 64 * 1024
    assert not lazy._queue
    assert texts(await collect(lazy, "line 99999")) == numbered(10, 99_990)


@pytest.mark.usefixtures("frequent_looks")
async def test_a_follower_moves_on_to_the_next_run(
    start_run: StartRun, pump: StartPump, follow: Follow, instance: Instance
) -> None:
    first, log = await run_query(start_run)
    copying = pump(first, log)
    follower = await follow(Cursor(first.pk, 0))
    log.write_lines(0, 5)
    log.close()
    assert await copying.finish()
    second, next_log = await run_query(start_run)
    pump(second, next_log)
    next_log.write_lines(5, 5)
    items = await collect(follower, "line 9")
    assert texts(items) == numbered(0, 10)
    kinds = [(type(item), item.cursor.run_id) for item in items if not isinstance(item, LogChunk)]
    assert kinds == [(RunBegins, first.pk), (RunEnds, first.pk), (RunBegins, second.pk)]


@pytest.mark.usefixtures("frequent_looks")
async def test_a_follower_waits_for_the_first_run_of_an_instance(
    start_run: StartRun, pump: StartPump, follow: Follow
) -> None:
    follower = await follow(None)
    waiting = asyncio.create_task(collect(follower, "line 0"))
    await asyncio.sleep(0.1)
    run, log = await run_query(start_run)
    pump(run, log)
    log.write_lines(0, 1)
    assert texts(await waiting) == ["line 0"]


async def test_an_event_moves_a_follower_on_at_once(
    start_run: StartRun, pump: StartPump, follow: Follow, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accounts.events import publish
    from instances.logs import watch

    monkeypatch.setattr(watch, "LOOK_S", 60)
    follower = await follow(None)
    waiting = asyncio.create_task(collect(follower, RunBegins))
    await asyncio.sleep(0.5)
    await run_query(start_run)
    await run_query(
        publish,
        {"type": "instance.changed", "instance_id": instance.pk, "name": "llama", "state": "ready", "version": 1},
    )
    assert isinstance((await waiting)[0], RunBegins)


async def test_the_log_of_a_run_whose_stream_expired_comes_from_the_file(
    start_run: StartRun, follow: Follow, client: redis.asyncio.Redis
) -> None:
    run, log = await run_query(start_run)
    log.write_lines(0, 1000)
    log.close()
    await run_query(Run.objects.filter(pk=run.pk).update, exited_at=timezone.now())
    items = await collect(await follow(Cursor(run.pk, 0)), RunEnds)
    assert texts(items) == numbered(0, 1000)
    assert await client.exists(stream_key(run.pk)) == 0


@pytest.mark.usefixtures("frequent_looks")
async def test_a_run_whose_pump_was_killed_ends_all_the_same(
    start_run: StartRun, pump: StartPump, follow: Follow, client: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower_module, "UNTOLD_END_S", 0.2)
    run, log = await run_query(start_run)
    log.write_lines(0, 10)
    first = LogPump(client, run.pk, log.path)
    task = asyncio.create_task(first.run())
    follower = await follow(Cursor(run.pk, 0))
    seen = await collect(follower, "line 9")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    log.write_lines(10, 10)
    log.close()
    await run_query(Run.objects.filter(pk=run.pk).update, exited_at=timezone.now())
    assert texts(seen + await collect(follower, RunEnds)) == numbered(0, 20)


@pytest.mark.usefixtures("frequent_looks")
async def test_following_ends_with_the_instance(
    start_run: StartRun, pump: StartPump, follow: Follow, instance: Instance
) -> None:
    run, log = await run_query(start_run)
    pump(run, log)
    follower = await follow(Cursor(run.pk, 0))
    log.write_lines(0, 1)
    await collect(follower, "line 0")
    await run_query(instance.delete)
    async with asyncio.timeout(60):
        assert await follower.next() is None
