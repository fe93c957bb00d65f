-- KEYS: the markers', the rows', the high-water mark's where there is one, the epoch's token where it is compared.
-- ARGV: how many rows, the marker's word or '', the high-water number (8 bytes) or '', the token or '', the replication
-- id or '', for each row its sequence (6 bytes), then '1' and the row or '0' and '' to remove it; until when (microseconds
-- of this server's clock) or ''.
-- Gives a digit for each row, 1 where it was replaced, and the marker's number behind a colon where one was left.

local count, word, high, token, id = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if is_late(ARGV[#ARGV]) then return redis.error_reply(LATE) end

-- The sequence of what is stored; nothing where a newer headwater wrote it.
local function sequence_of(old)
  local first, size = old and string.byte(old, 1), old and #old
  if not first then return string.rep('\0', 6) end
  if first > VERSION and first <= NEWEST or first > WINDOW_VERSION and first <= WINDOW_NEWEST then return nil end
  if first == WINDOW_VERSION and size >= WINDOW_HEADER_SIZE then
    return string.sub(old, SEQUENCE + 1, SEQUENCE + 6)
  elseif first == VERSION and size >= HEADER_SIZE then
    if string.byte(old, 2) % (2 * DELETED) < DELETED or size >= TOMBSTONE_END then
      return string.sub(old, SEQUENCE + 1, SEQUENCE + 6)
    end
  elseif first == OLD_VERSION and size >= OLD_HEADER_SIZE then
    return string.sub(old, OLD_SEQUENCE + 3, OLD_SEQUENCE + 8)
  end
  return string.rep('\0', 6)
end

local stored, same = redis.call('MGET', unpack(KEYS, 2, count + 1)), true
if id ~= '' and replication_id() ~= id then same = false end
if token ~= '' and redis.call('GET', KEYS[#KEYS]) ~= token then same = false end

local outcomes, rows, gone, sequences = {}, {}, {}, {}
for i = 1, count do
  sequences[i] = sequence_of(stored[i])
  if not sequences[i] then return redis.error_reply(NEWER) end
end
if high ~= '' then raise(KEYS[count + 2], high) end
for i = 1, count do
  local at = 3 * i + 3
  if not same or sequences[i] ~= ARGV[at] then
    outcomes[i] = '0'
  else
    outcomes[i] = '1'
    if ARGV[at + 1] == '1' then
      rows[#rows + 1] = KEYS[i + 1]
      rows[#rows + 1] = ARGV[at + 2]
    else
      gone[#gone + 1] = KEYS[i + 1]
    end
  end
end
if #rows > 0 then redis.call('MSET', unpack(rows)) end
if #gone > 0 then redis.call('DEL', unpack(gone)) end
if word ~= '' and (#rows > 0 or #gone > 0) then
  return table.concat(outcomes) .. ':' .. leave_marker(KEYS[1], word)
end
return table.concat(outcomes)
