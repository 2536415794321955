"""Starts, failures and swaps come from the events into the hash of the metrics, each once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import redis.asyncio
from asgiref.sync import sync_to_async

from instances.domain.transitions import record_event
from instances.models import Instance
from instances.supervisor.counting import EventCounter
from instances.supervisor.database import DatabaseRunner
from tests.factories import make_instance, make_node
from tests.gateway.harness import Valkey, run_valkey

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    with run_valkey() as server:
        yield server


@pytest.fixture
async def client(valkey: Valkey) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.Redis.from_url(valkey.url) as client:
        await client.hset("corral:metrics", "@epoch", "1")
        yield client


@pytest.fixture
async def database() -> AsyncIterator[DatabaseRunner]:
    runner = DatabaseRunner()
    yield runner
    await runner.close()


def write_events(instance: Instance, *changes: str, actor: str = "supervisor") -> None:
    """Record transitions such as ``stopped-starting``, and other events by their kind."""
    for change in changes:
        source, _, target = change.partition("-")
        if target:
            record_event(instance, kind="transition", actor=actor, from_state=source, to_state=target)
        else:
            record_event(instance, kind=change, actor=actor)


async def read_counts(client: redis.asyncio.Redis) -> dict[str, int]:
    held = await client.hgetall("corral:metrics")
    return {field.decode(): int(value) for field, value in held.items() if not field.startswith(b"@")}


async def test_each_event_is_counted_once(client: redis.asyncio.Redis, database: DatabaseRunner) -> None:
    alpha = await sync_to_async(make_instance)("alpha")
    beta = await sync_to_async(make_instance)("beta")
    elsewhere = await sync_to_async(lambda: make_instance("far", node=make_node("south")))()
    write = sync_to_async(write_events)
    await write(alpha, "stopped-starting")  # before this supervisor began
    counter = EventCounter(alpha.node.name)
    await counter.count(client, database)
    assert await read_counts(client) == {}
    await write(alpha, "stopped-starting", "starting-ready", "evicted", "ready-stopping", "stopping-stopped")
    await write(beta, "stopped-starting", "starting-backoff", "backoff-starting", "starting-failed", "refused")
    await write(beta, "ready-backoff", "start", "failed-stopped")
    await write(elsewhere, "stopped-starting")
    await write(alpha, "evicted", actor="user:anna")
    expected = {
        f"starts|{alpha.pk}": 1,
        f"swaps|{alpha.pk}": 1,
        f"starts|{beta.pk}": 2,
        f"start_failures|{beta.pk}": 2,
        f"refusals|{beta.pk}": 1,
        f"crashes|{beta.pk}": 1,
    }
    for _ in range(2):
        await counter.count(client, database)
        assert await read_counts(client) == expected
    await write(alpha, "stopped-starting")
    await EventCounter(alpha.node.name).count(client, database)  # of a supervisor that was restarted
    assert (await read_counts(client))[f"starts|{alpha.pk}"] == 2


async def test_what_happens_while_redis_has_nothing_is_counted_later(
    client: redis.asyncio.Redis, database: DatabaseRunner
) -> None:
    alpha = await sync_to_async(make_instance)("alpha")
    counter = EventCounter(alpha.node.name)
    await counter.count(client, database)
    copy = await client.dump("corral:metrics")
    await sync_to_async(write_events)(alpha, "stopped-starting")
    await counter.count(client, database)
    await client.delete("corral:metrics")
    await sync_to_async(write_events)(alpha, "stopped-starting")
    await counter.count(client, database)
    assert not await client.exists("corral:metrics")
    await client.restore("corral:metrics", 0, copy)  # as a web process puts it back
    await counter.count(client, database)
    assert await read_counts(client) == {f"starts|{alpha.pk}": 2}
