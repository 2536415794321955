"""What is done in Redis in one step: scripts, because others write to the same hash at the same moment."""

from __future__ import annotations

# KEYS: totals, shares. ARGV: process, epoch, number of this write, number of the last one known to be done, whether
# everything is sent (1 or 0), then fields and values. Answers what happened, and the epoch.
ADD = """
local epoch = redis.call('HGET', KEYS[1], '@epoch') or ''
if epoch == '' or epoch ~= ARGV[2] then return {'epoch', epoch} end
local mine = ARGV[1] .. '|'
local number, known, is_whole = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] == '1'
local held = tonumber(redis.call('HGET', KEYS[2], mine .. '@number') or '') or 0
if held >= number then return {'late', epoch} end
if held == 0 and known > 0 and not is_whole then return {'removed', epoch} end
if held < known and not is_whole then return {'behind', epoch} end
for i = 6, #ARGV, 2 do
  local share, value = mine .. ARGV[i], tonumber(ARGV[i + 1])
  local added = value - tonumber(redis.call('HGET', KEYS[2], share) or 0)
  if added < 0 then added = value end
  if added ~= 0 then
    redis.call('HINCRBY', KEYS[1], ARGV[i], string.format('%.0f', added))
    redis.call('HSET', KEYS[2], share, ARGV[i + 1])
  end
end
local now = redis.call('TIME')[1]
redis.call('HSET', KEYS[2], mine .. '@number', ARGV[3], mine .. '@seen', now)
if is_whole and known > 0 then redis.call('HSET', KEYS[1], '@since', now) end
return {'done', epoch}
"""

# KEYS: totals. Answers the time and the hash as MessagePack: one piece is read many times faster than thousands.
READ = """
return {redis.call('TIME')[1], cmsgpack.pack(redis.call('HGETALL', KEYS[1]))}
"""

# KEYS: totals, shares. ARGV: the new epoch, and both hashes as DUMP gave them ('' for none).
INSTALL = """
if redis.call('HEXISTS', KEYS[1], '@epoch') == 1 then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
local since = 0
if ARGV[2] ~= '' then
  redis.call('RESTORE', KEYS[1], 0, ARGV[2])
  if ARGV[3] ~= '' then redis.call('RESTORE', KEYS[2], 0, ARGV[3]) end
  since = redis.call('TIME')[1]
end
redis.call('HSET', KEYS[1], '@epoch', ARGV[1], '@since', since)
return 1
"""
