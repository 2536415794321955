"""The Redis Stream of a run's log: ``corral:log:<run id>``.

An entry holds consecutive whole records: id ``<end offset>-0``, field ``o`` the offset of the first byte, field ``d``
the bytes. The end of the log is an entry ``<end offset>-1`` with the field ``end``. Because ids are offsets, a reader's
cursor is a stream position, and an entry can't be added twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import redis.asyncio

from instances.logs.cancellation import keep_cancellation

MAX_CHUNK = 64 * 1024
"""Most bytes of log in one entry."""
KEPT_BYTES = 8 * 2**20
"""How much of a run's log the stream holds; older bytes are in the file alone."""
ENDED_TTL_S = 3600
"""How long the stream of an ended run is kept."""
SILENT_TTL_S = 24 * 3600
"""How long a stream outlives a writer that never came back."""


def stream_key(run_id: int) -> str:
    """Return the key of a run's stream."""
    return f"corral:log:{run_id}"


@dataclass(frozen=True)
class Entry:
    """One entry of a stream; ``is_end`` marks the end of the log."""

    start: int
    end: int
    data: bytes
    is_end: bool = False


async def read_new_entries(client: redis.asyncio.Redis, run_id: int, after: int, wait_ms: int) -> list[Entry]:
    """Wait for entries that end behind the offset; an empty list when none came in time. Raises RedisError."""
    # The second part of the id lets the end record through when the log ended exactly at the offset.
    answer: Any = await keep_cancellation(client.xread({stream_key(run_id): f"{after}-0"}, count=16, block=wait_ms))
    pairs = list(answer.values() if isinstance(answer, dict) else (pair[1] for pair in answer or ()))
    rows = pairs[0] if pairs else []
    return _to_entries(rows[0] if rows and isinstance(rows[0], list) else rows)


async def read_entries(client: redis.asyncio.Redis, run_id: int, after: int, count: int) -> list[Entry]:
    """Return the oldest entries that end behind the offset, without waiting. Raises RedisError."""
    return _to_entries(await keep_cancellation(client.xrange(stream_key(run_id), f"({after}-0", "+", count=count)))


async def read_last_entry(client: redis.asyncio.Redis, run_id: int) -> Entry | None:
    """Return the newest entry, None when there is no stream. Raises RedisError."""
    entries = _to_entries(await keep_cancellation(client.xrevrange(stream_key(run_id), "+", "-", count=1)))
    return entries[0] if entries else None


def _to_entries(rows: Any) -> list[Entry]:
    return [_to_entry(*row) for row in rows]


def _to_entry(identity: bytes, fields: dict[bytes, bytes]) -> Entry:
    end = int(identity.partition(b"-")[0])
    if b"end" in fields:
        return Entry(end, end, b"", is_end=True)
    return Entry(int(fields[b"o"]), end, fields[b"d"])


_APPEND = """
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local position = '-1'
if #last > 0 then position = string.match(last[1][1], '^%d+') end
if position ~= ARGV[1] then return position end
redis.call('XADD', KEYS[1], 'MINID', '~', ARGV[4], ARGV[3] .. '-0', 'o', ARGV[2], 'd', ARGV[5])
redis.call('EXPIRE', KEYS[1], ARGV[6])
return ARGV[3]
"""

_FIND_END = """
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if #last == 0 then return '' end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return last[1][1]
"""
# Both scripts look at the newest entry inside of Redis, so that its 64 KiB don't travel.


class StreamWriter:
    """Appends to the stream of one run. One writer at a time is assumed, but a second one does no harm."""

    def __init__(self, client: redis.asyncio.Redis, run_id: int) -> None:
        self._client = client
        self._key = stream_key(run_id)
        self._append = client.register_script(_APPEND)
        self._find_end = client.register_script(_FIND_END)

    async def append(self, after: int | None, start: int, data: bytes) -> int | None:
        """Add the bytes from ``start`` on if the stream ends at ``after`` (None: if it is empty or missing).

        Returns where the stream ends now: behind ``data`` when it was added, elsewhere when the stream is not what the
        writer took it for (an answer that was lost, a Redis that forgot); None when it is empty. Raises RedisError.
        """
        end = start + len(data)
        expected = -1 if after is None else after
        arguments: list[int | bytes] = [expected, start, end, max(0, end - KEPT_BYTES), data, SILENT_TTL_S]
        position = int(await keep_cancellation(self._append(keys=[self._key], args=arguments)))
        return None if position < 0 else position

    async def find_end(self) -> int | None:
        """Return where the stream ends, None when there is none; prolongs its life. Raises RedisError."""
        identity = await keep_cancellation(self._find_end(keys=[self._key], args=[SILENT_TTL_S]))
        return int(identity.partition(b"-")[0]) if identity else None

    async def close(self, end: int) -> None:
        """Add the end record, once, and let the stream expire. Raises RedisError."""
        identity = await keep_cancellation(self._find_end(keys=[self._key], args=[SILENT_TTL_S]))
        if not identity.endswith(b"-1"):
            await keep_cancellation(self._client.xadd(self._key, {"end": "1"}, id=f"{end}-1"))
        await keep_cancellation(self._client.expire(self._key, ENDED_TTL_S))
