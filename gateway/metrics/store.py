"""Bringing this process's totals into Redis so that each is counted there once, whatever happens on the way.

Two hashes: `corral:metrics` holds the totals of all processes, `corral:metrics:shares` how much of them each process
has put in. A process always sends its own totals since it began, and a script adds what exceeds its share to the total
and raises the share, in one step. So a write may be repeated after a lost answer, and nothing is lost or doubled by it:

- Redis is away: the totals stay in memory and the next write brings them.
- The answer to a write is lost: the next one adds only what is new. Writes are numbered, so one that was stuck in a
  socket and arrives late is ignored.
- The process dies: its share stays in the totals. What it had not written yet, at most a second, is lost.
- Redis comes back empty (the embedded server keeps nothing on disk): `@epoch` is missing. Each process keeps a copy of
  both hashes, at most ten seconds old; the first to notice puts its copy back, with a new epoch, and then every process
  sends all of its totals again, of which the script adds what the copy lacked. Lost is only what a process wrote after
  the copy and did not live to repeat.
- Redis comes back with an older state of its own: the number of the last write is lower than this process knows, and
  it sends all of its totals again.

While totals are put together again they would look as if they had fallen; `@since` says when that began, and scrapes
wait for a few seconds (`gateway/metrics/reading.py`).
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Collection, Mapping
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from gateway.metrics.fields import SHARES_KEY, TOTALS_KEY, find_instance
from gateway.metrics.scripts import ADD, INSTALL

logger = logging.getLogger(__name__)

COPY_INTERVAL_S = 10.0
CONTACT_INTERVAL_S = 5.0
"""A process without news writes so often all the same: to notice an emptied Redis, and to be known as alive."""
DEAD_AFTER_S = 86400.0
"""The share of a process that was not heard of for so long is removed (`gateway/metrics/pruning.py`)."""
_MAX_FIELDS = 250
"""In one write: a thousand busy instances must not hold up the requests of this process for long."""
_ATTEMPTS = 5
_KEYS = (TOTALS_KEY, SHARES_KEY)


class TotalsStore:
    """One process's side of it. Used from one event loop, one call at a time."""

    def __init__(self, process: str) -> None:
        self._process = process
        self._values: dict[str, int] = {}
        self._written: dict[str, int] = {}
        self._changed: set[str] = set()
        self._epoch = ""
        self._number = self._known = 0
        self._is_whole = False
        self._copy: tuple[bytes, bytes] = (b"", b"")
        self._copied_at = self._contact_at = -CONTACT_INTERVAL_S

    def take(self, values: Mapping[str, int]) -> None:
        """Take in totals since this process began; they need not be all."""
        self._values.update(values)
        self._changed.update(field for field, value in values.items() if self._written.get(field) != value)

    async def write(self, redis: Redis) -> None:
        """Bring into Redis what it lacks. Raises RedisError; what isn't written is kept."""
        if not self._changed and time.monotonic() - self._contact_at < CONTACT_INTERVAL_S:
            return
        attempts = _ATTEMPTS
        while attempts:
            batch = {field: self._values[field] for field in list(self._changed)[:_MAX_FIELDS]}
            if not await self._add(redis, batch):
                attempts -= 1
            elif not self._changed:
                break
        await self._keep_copy(redis)

    async def _add(self, redis: Redis, batch: dict[str, int]) -> bool:
        self._number += 1
        numbers = (self._process, self._epoch, self._number, self._known, int(self._is_whole))
        pairs = [part for pair in batch.items() for part in pair]
        what, epoch = await _run_script(redis, ADD, *numbers, *pairs)
        if what == b"done":
            self._known, self._contact_at = self._number, time.monotonic()
            self._written |= batch
            self._changed -= batch.keys()
            self._is_whole = self._is_whole and bool(self._changed)
            return True
        if what == b"epoch":
            await self._enter(redis, epoch.decode())
        elif what == b"removed" and time.monotonic() - self._contact_at > DEAD_AFTER_S / 2:
            await self._put_share_back(redis)
        elif what != b"late":
            self._send_everything()
        return False

    async def _enter(self, redis: Redis, epoch: str) -> None:
        """Join the epoch that Redis has, or begin one with the copy of what was there before."""
        if not epoch:
            epoch = secrets.token_hex(8)
            try:
                installed = await _run_script(redis, INSTALL, epoch, *self._copy)
            except ResponseError as error:
                # Another version of Redis, which can't read the copy: begin with what this process knows.
                logger.warning("The copy of the metrics can't be put back: %s", error)
                self._copy = (b"", b"")
                return
            if not installed:
                return  # another process was faster; the next attempt learns its epoch
        self._epoch = epoch
        self._send_everything()

    def _send_everything(self) -> None:
        self._written.clear()
        self._changed = set(self._values)
        self._is_whole = True

    async def _put_share_back(self, redis: Redis) -> None:
        """This process was away for so long that it was taken for dead; what it wrote is in the totals."""
        share = {**self._written, "@number": self._known}
        pairs = [part for field, value in share.items() for part in (f"{self._process}|{field}", str(value))]
        await redis.hset(SHARES_KEY, items=pairs)

    async def _keep_copy(self, redis: Redis) -> None:
        if time.monotonic() - self._copied_at < COPY_INTERVAL_S:
            return
        began = time.monotonic()
        async with redis.pipeline(transaction=True) as pipeline:
            pipeline.dump(TOTALS_KEY)
            pipeline.dump(SHARES_KEY)
            totals, shares = await pipeline.execute()
        if totals:
            self._copy = (totals, shares or b"")
        # A large copy is taken less often, so that it never costs Redis more than a hundredth of its time.
        self._copied_at = time.monotonic() + 100 * (time.monotonic() - began)

    def forget(self, instance_ids: Collection[int]) -> None:
        """Drop the totals of instances whose rows were removed from Redis."""
        for field in [field for field in self._values if find_instance(field) in instance_ids]:
            del self._values[field]
            self._written.pop(field, None)
            self._changed.discard(field)


async def _run_script(redis: Redis, script: str, *arguments: str | bytes | int) -> Any:
    return await redis.eval(script, len(_KEYS), *_KEYS, *arguments)
