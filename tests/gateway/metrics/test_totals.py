"""Totals in a real Valkey: each request is counted once, whatever happens to Valkey, to the link and to processes."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from redis.asyncio import Redis

from gateway.metrics import Metrics
from gateway.metrics.fields import SHARES_KEY, TOTALS_KEY
from tests.gateway.harness import Valkey
from tests.gateway.metrics.exchanges import ALPHA, BETA, Done, count_requests, make_routes, read_totals
from tests.gateway.metrics.faulty_link import FaultyLink

pytestmark = pytest.mark.any_database
PROGRAM = Path(__file__).with_name("counting_process.py")


@pytest.fixture
async def redis(valkey: Valkey) -> AsyncIterator[Redis]:
    async with Redis.from_url(valkey.url) as client:
        yield client


@pytest.fixture(autouse=True)
def fast_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every write asks Redis, and keeps a copy."""
    monkeypatch.setattr("gateway.metrics.store.COPY_INTERVAL_S", 0.0)
    monkeypatch.setattr("gateway.metrics.store.CONTACT_INTERVAL_S", 0.0)


class Counter:
    """A real process that counts."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def count(self, number: int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"%d\n" % number)
        await self.hear(b"counted\n")

    async def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        self._process.send_signal(number)
        await self._process.wait()

    async def hear(self, word: bytes) -> None:
        assert self._process.stdout is not None
        async with asyncio.timeout(60):
            assert await self._process.stdout.readline() == word


@pytest.fixture
async def start_counter(valkey: Valkey) -> AsyncIterator[Callable[[], Awaitable[Counter]]]:
    """Starts processes that count, and ends what is left of them."""
    started: list[asyncio.subprocess.Process] = []

    async def start() -> Counter:
        pipe = asyncio.subprocess.PIPE
        arguments = (sys.executable, str(PROGRAM), valkey.url)
        process = await asyncio.create_subprocess_exec(*arguments, stdin=pipe, stdout=pipe)
        started.append(process)
        counter = Counter(process)
        await counter.hear(b"counting\n")
        return counter

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def wait_for_total(redis: Redis, total: int) -> None:
    async with asyncio.timeout(60):
        while await count_requests(redis) != total:  # noqa: ASYNC110  it happens in Redis
            await asyncio.sleep(0.05)


async def wait_for_writes(redis: Redis, processes: int) -> None:
    """Return when so many processes have written three times from now on."""

    async def read_numbers() -> dict[bytes, int]:
        shares = await redis.hgetall(SHARES_KEY)
        return {share: int(value) for share, value in shares.items() if share.endswith(b"|@number")}

    before = await read_numbers()
    async with asyncio.timeout(60):
        while (  # noqa: ASYNC110  it happens in Redis
            sum(number >= before[share] + 3 for share, number in (await read_numbers()).items()) < processes
        ):
            await asyncio.sleep(0.1)


async def test_two_processes_add_up_over_a_restart_of_valkey_and_a_killed_process(
    valkey: Valkey, start_counter: Callable[[], Awaitable[Counter]]
) -> None:
    first, second = await start_counter(), await start_counter()
    async with Redis.from_url(valkey.url) as redis:
        await asyncio.gather(first.count(100), second.count(20))
        await wait_for_total(redis, 120)
        await second.end(signal.SIGKILL)
        third = await start_counter()
        await third.count(3)
        await wait_for_total(redis, 123)
        await wait_for_writes(redis, processes=2)  # so both living ones keep a copy of all this
        valkey.stop()
        await asyncio.gather(first.count(1000), third.count(4))
        valkey.start()  # empty
        await redis.connection_pool.disconnect()
        await wait_for_total(redis, 1127)
        await first.count(5)
        await asyncio.gather(first.end(), third.end())
        assert await count_requests(redis) == 1132


async def test_lost_answers_double_nothing_and_lose_nothing(valkey: Valkey, redis: Redis) -> None:
    chance = random.Random(1)
    async with FaultyLink(valkey.url) as link, Redis.from_url(link.url, retry=None) as faulty:
        metrics = Metrics(make_routes(), "one")
        counted = 0
        for _ in range(60):
            number = chance.randrange(4)
            for _ in range(number):
                metrics.observe(Done())
            counted += number
            link.loses_answers = chance.random() < 0.5
            await metrics.write(faulty)
        link.loses_answers = False
        await metrics.write(faulty)
    assert await count_requests(redis) == counted


async def test_a_write_that_arrives_late_changes_nothing(
    valkey: Valkey, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.metrics.metrics.WRITE_TIMEOUT_S", 0.3)
    async with FaultyLink(valkey.url) as link, Redis.from_url(link.url) as slow:
        metrics = Metrics(make_routes(), "one")
        metrics.observe(Done())
        await metrics.write(slow)
        metrics.observe(Done())
        link.holds_requests = True
        await metrics.write(slow)
        assert link.held_count == 1
        metrics.observe(Done())
        await metrics.write(redis)
        assert await count_requests(redis) == 3
        await link.deliver()
        await asyncio.sleep(0.3)
    assert await count_requests(redis) == 3


async def test_an_older_state_of_valkey_is_brought_up_to_date(valkey: Valkey, redis: Redis) -> None:
    metrics, other = Metrics(make_routes(), "one"), Metrics(make_routes(), "other")
    for each in (metrics, other):
        each.observe(Done())
        await each.write(redis)
    await redis.save()
    metrics.observe(Done())
    await metrics.write(redis)
    assert await count_requests(redis) == 3
    valkey.stop()
    valkey.start()
    await redis.connection_pool.disconnect()
    assert await count_requests(redis) == 2
    for each in (other, metrics):
        await each.write(redis)
    assert await count_requests(redis) == 3


async def test_an_emptied_valkey_gets_back_what_dead_processes_had_counted(redis: Redis) -> None:
    ended, old, young = (Metrics(make_routes(), name) for name in ("ended", "old", "young"))
    for each in (ended, old):
        each.observe(Done(route=BETA))
        await each.write(redis)
    await old.write(redis)
    for each in (old, young):
        each.observe(Done())
        await each.write(redis)  # young keeps a copy with all of them, old one without young
    await redis.flushall()
    young.observe(Done())
    for each in (old, young, old):
        await each.write(redis)
    totals = await read_totals(redis)
    assert totals["requests|8|vllm|200|answered"] == 2
    assert totals["requests|7|llama_cpp|200|answered"] == 3


async def test_a_copy_that_valkey_cannot_read_is_left_out(redis: Redis) -> None:
    metrics = Metrics(make_routes(), "one")
    metrics.observe(Done())
    await metrics.write(redis)
    metrics._store._copy = (b"of another version", b"")
    await redis.flushall()
    await metrics.write(redis)
    assert await count_requests(redis) == 1


async def test_thousands_of_totals_are_written_in_pieces(redis: Redis) -> None:
    routes = [msgspec.structs.replace(ALPHA, instance_id=number, name=f"i{number}") for number in range(1, 801)]
    metrics = Metrics(make_routes(*routes), "one")
    for route in routes:
        metrics.observe(Done(route=route))
    await metrics.write(redis)
    totals = await read_totals(redis)
    assert len(totals) == 800 * 3
    assert sum(value for field, value in totals.items() if field.startswith("requests|")) == 800


async def test_a_process_taken_for_dead_goes_on_where_it_was(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Metrics(make_routes(), "one")
    metrics.observe(Done())
    await metrics.write(redis)
    await redis.hset(SHARES_KEY, "one|@seen", 1)
    await Metrics(make_routes(), "other").prune(redis)
    assert await redis.hkeys(SHARES_KEY) == []
    assert await count_requests(redis) == 1
    monkeypatch.setattr("gateway.metrics.store.DEAD_AFTER_S", 0.0)
    metrics.observe(Done())
    await metrics.write(redis)
    assert await count_requests(redis) == 2


async def test_totals_of_a_deleted_instance_go_at_the_second_look(redis: Redis) -> None:
    routes = make_routes()
    metrics = Metrics(routes, "one")
    for route in (ALPHA, BETA, None):
        metrics.observe(Done(route=route))
    await metrics.write(redis)
    metrics._routes = make_routes(BETA)
    await metrics.prune(redis)
    assert await count_requests(redis) == 3  # its row might just be unreadable
    await metrics.prune(redis)
    await metrics.write(redis)
    fields = [field.decode() for field in await redis.hkeys(TOTALS_KEY) + await redis.hkeys(SHARES_KEY)]
    assert not [field for field in fields if "|7|" in field]
    assert await count_requests(redis) == 2


async def test_what_was_dropped_is_counted(redis: Redis) -> None:
    dropped = 3
    metrics = Metrics(make_routes(), "one", count_dropped=lambda: dropped)
    await metrics.write(redis)
    dropped = 5
    await metrics.write(redis)
    assert await read_totals(redis) == {"dropped": 5}


async def test_nothing_is_asked_of_redis_while_nothing_happens(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.metrics.store.CONTACT_INTERVAL_S", 5.0)
    metrics = Metrics(make_routes(), "one")
    await metrics.write(redis)
    before = (await redis.info("stats"))["total_commands_processed"]
    for _ in range(10):
        await metrics.write(redis)
    assert (await redis.info("stats"))["total_commands_processed"] == before + 1  # INFO itself
