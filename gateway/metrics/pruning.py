"""Removing what nobody asks for any more: totals of deleted instances, and shares of processes that ended."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Container

from redis.asyncio import Redis

from gateway.metrics.fields import SHARES_KEY, TOTALS_KEY, find_instance
from gateway.metrics.store import DEAD_AFTER_S

_SCAN_SIZE = 200


class Pruner:
    """Looks from time to time; an instance must be unknown at two looks in a row, as a row may be unreadable once."""

    def __init__(self) -> None:
        self._missing: set[int] = set()

    async def prune(self, redis: Redis, known: Container[int]) -> set[int]:
        """Remove from Redis what is obsolete, and return the ids of instances that are gone. Raises RedisError."""
        missing: set[int] = set()
        obsolete: list[str] = []
        async for field, _ in _scan(redis, TOTALS_KEY):
            instance_id = find_instance(field)
            if instance_id is not None and instance_id not in known:
                missing.add(instance_id)
                if instance_id in self._missing:
                    obsolete.append(field)
        gone = missing & self._missing
        await _remove(redis, TOTALS_KEY, obsolete)
        await self._prune_shares(redis, gone)
        self._missing = missing - gone
        return gone

    async def _prune_shares(self, redis: Redis, gone: set[int]) -> None:
        heard_of = time.time() - DEAD_AFTER_S
        dead: set[str] = set()
        fields: list[tuple[str, str]] = []
        async for share, value in _scan(redis, SHARES_KEY):
            process, _, field = share.partition("|")
            fields.append((process, field))
            if field == "@seen" and float(value) < heard_of:
                dead.add(process)
        obsolete = [
            f"{process}|{field}" for process, field in fields if process in dead or find_instance(field) in gone
        ]
        await _remove(redis, SHARES_KEY, obsolete)


async def _scan(redis: Redis, key: str) -> AsyncIterator[tuple[str, bytes]]:
    async for field, value in redis.hscan_iter(key, count=_SCAN_SIZE):
        yield field.decode(), value


async def _remove(redis: Redis, key: str, fields: list[str]) -> None:
    for start in range(0, len(fields), _SCAN_SIZE):
        await redis.hdel(key, *fields[start : start + _SCAN_SIZE])
