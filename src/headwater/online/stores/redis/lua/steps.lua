-- What several scripts do. A row's header is compared as numbers of 32 bits: Lua's numbers are doubles, and its order of
-- text follows the server's locale.

local function is_late(until_micros)
  if until_micros == '' then return false end
  local now = redis.call('TIME')
  return now[1] * 1000000 + now[2] > tonumber(until_micros)
end

-- Whether a high-water mark that is stored must be raised to a number (8 bytes).
local function is_lower(stored, number)
  if not stored or #stored ~= 8 then return true end
  local a1, a2 = struct.unpack('>I4I4', stored)
  local b1, b2 = struct.unpack('>I4I4', number)
  return a1 < b1 or (a1 == b1 and a2 < b2)
end

local function raise(key, number)
  if is_lower(redis.call('GET', key), number) then redis.call('SET', key, number) end
end

local function replication_id()
  return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end

-- Leave a marker behind what was written, and tell its number.
local function leave_marker(key, word)
  local number = redis.call('HINCRBY', key, 's', 1)
  redis.call('HSET', key, 'n', word, number, word)
  redis.call('HDEL', key, number - KEPT_MARKERS)
  return number
end
