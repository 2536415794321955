"""Counting starts, failures and swaps of a node's instances into the Redis hash ``corral:metrics``.

They are counted from the events in the database and not where they happen: so nothing is lost while Redis is away or
the supervisor ends, and the hash itself notes how far the node's events are counted, so nothing is doubled either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable
from typing import cast

import redis.asyncio

from instances.enums import State
from instances.logs.cancellation import keep_cancellation
from instances.models import InstanceEvent
from instances.supervisor.actor import ACTOR
from instances.supervisor.database import DatabaseRunner

KEY = "corral:metrics"
BATCH = 1000
FAILED = (State.FAILED, State.BACKOFF)
FAILURES: dict[str, str] = {State.STARTING: "start_failures", State.READY: "crashes"}

# KEYS: totals. ARGV: the note's field, what it said when the events were read, what it says afterwards, then fields and
# values. Web processes begin the hash, or put it back after Redis lost it (gateway/metrics/store.py): not before them.
ADD = """
if redis.call('HEXISTS', KEYS[1], '@epoch') == 0 then return 0 end
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
for i = 4, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
"""


class EventCounter:
    """Counts the events that this node's supervisor wrote; it alone writes them, one after another."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._note = f"@events:{node}"
        self._begin: int | None = None

    async def count(self, client: redis.asyncio.Redis, database: DatabaseRunner) -> None:
        """Add what happened since the last time. Raises RedisError and DatabaseError; nothing is lost by them."""
        if self._begin is None:
            self._begin = await database.run(find_newest_event)
        noted = await keep_cancellation(cast("Awaitable[bytes | None]", client.hget(KEY, self._note)))
        after = self._begin if noted is None else int(noted)
        newest, counts = await database.run(count_events, self._node, after)
        if newest == after and noted is not None:
            return
        pairs = [str(part) for pair in counts.items() for part in pair]
        before = "" if noted is None else noted.decode()
        script = client.eval(ADD, 1, KEY, self._note, before, str(newest), *pairs)
        if await keep_cancellation(cast("Awaitable[int]", script)):
            self._begin = newest


def find_newest_event() -> int:
    """Return the id of the newest event, 0 when there is none."""
    return InstanceEvent.objects.order_by("-pk").values_list("pk", flat=True).first() or 0


def count_events(node: str, after: int) -> tuple[int, Counter[str]]:
    """Count the node's events with a higher id by field of the hash; return the highest id and the counts."""
    events = InstanceEvent.objects.filter(pk__gt=after, instance__node__name=node, actor=ACTOR).order_by("pk")
    newest = after
    counts: Counter[str] = Counter()
    for pk, instance_id, kind, source, target in events.values_list(
        "pk", "instance_id", "kind", "from_state", "to_state"
    )[:BATCH]:
        newest = pk
        name = name_event(kind, source, target)
        if name:
            counts[f"{name}|{instance_id}"] += 1
    return newest, counts


def name_event(kind: str, source: str, target: str) -> str:
    """Return what an event is counted as; an empty text for most."""
    if kind != "transition":
        return {"evicted": "swaps", "refused": "refusals"}.get(kind, "")
    if target == State.STARTING:
        return "starts"
    if target in FAILED:
        return FAILURES.get(source, "")
    return ""
