"""The totals of all processes, in Redis.

A process sends what it counted since its last batch. Batches are numbered, so one that is sent again because its answer
was lost counts once. `corral:quotas:epoch` tells an emptied Redis: to a new epoch each process brings the totals that
it remembers, and the highest are put back.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import msgspec
from redis.asyncio import Redis

PREFIX = "corral:quotas:"
_EPOCH_KEY = f"{PREFIX}epoch"
_KEPT_S = 3600
"""How long the total of a window that is over is kept: for what comes late."""

# KEYS: the epoch, the number of this process's last batch, the counters. ARGV: an epoch if there is none, the epoch
# that the process knows, the number of this batch, seconds to keep numbers; then for each counter what to add, the
# total that the process remembers ('' for none) and when to forget it. Answers the epoch and the totals; -1 where none
# is known.
_SCRIPT = """
local epoch = redis.call('GET', KEYS[1])
if not epoch then
  epoch = ARGV[1]
  redis.call('SET', KEYS[1], epoch)
end
local is_new = epoch ~= ARGV[2]
local is_repeated = tonumber(redis.call('GET', KEYS[2]) or '0') >= tonumber(ARGV[3])
redis.call('SET', KEYS[2], ARGV[3], 'EX', ARGV[4])
local totals = {}
for i = 3, #KEYS do
  local at = 5 + (i - 3) * 3
  local total = tonumber(redis.call('GET', KEYS[i]) or '')
  local remembered = tonumber(ARGV[at + 1])
  if remembered and (is_new or not total) then total = math.max(total or 0, remembered) end
  if total then
    if not is_repeated then total = math.max(0, total + tonumber(ARGV[at])) end
    redis.call('SET', KEYS[i], string.format('%.0f', total), 'EXAT', ARGV[at + 2])
  end
  totals[i - 2] = total or -1
end
return {epoch, totals}
"""


class Part(msgspec.Struct, frozen=True):
    """What a batch says about one counter."""

    key: str
    added: int
    remembered: int | None
    ends: float


class TotalsStore:
    """One process's side of it. One call at a time."""

    def __init__(self, process: str) -> None:
        self._number_key = f"{PREFIX}number:{process}"
        self._epoch = ""

    async def exchange(self, redis: Redis, number: int, parts: Sequence[Part]) -> list[int | None]:
        """Add what the parts say and return the totals, None where nobody remembers one; nothing was added there.

        Numbers rise; one that was sent before adds nothing. Raises `RedisError`.
        """
        arguments: list[str | int] = [secrets.token_hex(8), self._epoch, number, _KEPT_S]
        for part in parts:
            remembered = "" if part.remembered is None else part.remembered
            arguments += (part.added, remembered, int(part.ends) + _KEPT_S)
        keys = [_EPOCH_KEY, self._number_key, *(PREFIX + part.key for part in parts)]
        epoch, totals = await redis.eval(_SCRIPT, len(keys), *keys, *arguments)
        self._epoch = epoch.decode()
        return [None if total < 0 else int(total) for total in totals]
