-- The guard (guard.merge), for rows of the current codec over stored ones of any released codec.
-- KEYS: the markers', the rows', the high-water mark's where there is one.
-- ARGV: how many rows, seconds until they expire (0: never), the marker's word or '', the high-water number (8 bytes) or
-- '', the rows, until when (microseconds of this server's clock) or ''.
-- Gives a digit for each row (PutOutcome), and the marker's number behind a colon.

local count, seconds, word, high = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
if is_late(ARGV[count + 5]) then return redis.error_reply(LATE) end

local unpack_numbers, sub, byte, char = struct.unpack, string.sub, string.byte, string.char
local outcomes, put, new, expires = {}, {}, {}, {}

-- A stored row: its order in six numbers, its D and P ('' where it has none), where its values begin; nothing where no
-- codec wrote the bytes.
local function parse(row)
  local first, size = byte(row, 1), #row
  if first == VERSION and size >= HEADER_SIZE then
    local a1, a2, a3, a4, a5, a6 = unpack_numbers('>I4I4I4I4I4I3', row, EVENT + 1)
    if byte(row, 2) % (2 * DELETED) < DELETED then return a1, a2, a3, a4, a5, a6, '', HEADER_SIZE + 1 end
    if size < TOMBSTONE_END then return nil end
    return a1, a2, a3, a4, a5, a6, sub(row, HEADER_SIZE + 1, TOMBSTONE_END), TOMBSTONE_END + 1
  elseif first == OLD_VERSION and size >= OLD_HEADER_SIZE then
    -- the first codec: D in 8 bytes, event, created, origin in a byte, position in 8 bytes
    local a1, a2, a3, a4, origin, p1, p2 = unpack_numbers('>I4I4I4I4BI4I4', row, OLD_EVENT + 1)
    local a5 = (origin > 0 and 2147483648 or 0) + p1 % 8388608 * 256 + math.floor(p2 / 16777216)
    local through = sub(row, OLD_THROUGH + 1, OLD_THROUGH + 8)
    if through == string.rep('\0', 8) then through = '' else through = through .. '\128' .. string.rep('\0', 6) end
    return a1, a2, a3, a4, a5, p2 % 16777216, through, OLD_HEADER_SIZE + 1
  end
end

-- Whether a tombstone hides a new row, by D or by P.
local function is_hidden(tombstone, b1, b2, b3, b4, b5, b6)
  local d1, d2, p1, p2 = unpack_numbers('>I4I4I4I3', tombstone)
  if (b1 < d1 or (b1 == d1 and b2 <= d2)) and (b3 < d1 or (b3 == d1 and b4 <= d2)) then return true end
  local in_log = b5 > 2147483648 or (b5 == 2147483648 and b6 > 0)
  return in_log and (b5 < p1 or (b5 == p1 and b6 <= p2))
end

-- The digit for a row over a stored one, and what to store where something changes.
local function merge(old, row)
  local first = byte(old, 1)
  if first > VERSION and first <= NEWEST or first > WINDOW_VERSION and first <= WINDOW_NEWEST then return nil end
  local a1, a2, a3, a4, a5, a6, tombstone, values = parse(old)
  if not a1 then return '1', row, '' end
  local b1, b2, b3, b4, b5, b6 = unpack_numbers('>I4I4I4I4I4I3', row, EVENT + 1)
  local less, equal = false, false
  if a1 ~= b1 then less = b1 < a1
  elseif a2 ~= b2 then less = b2 < a2
  elseif a3 ~= b3 then less = b3 < a3
  elseif a4 ~= b4 then less = b4 < a4
  elseif a5 ~= b5 then less = b5 < a5
  elseif a6 ~= b6 then less = b6 < a6
  else equal = true end
  if less or (tombstone ~= '' and is_hidden(tombstone, b1, b2, b3, b4, b5, b6)) then return '0' end
  if equal and b5 < 2147483648 then
    local flags = byte(old, 2)
    if first == VERSION and tombstone ~= '' then flags = flags - DELETED end
    if flags % (2 * EMPTIED) < EMPTIED then
      local same = flags == byte(row, 2) and sub(old, 3, SEQUENCE) == sub(row, 3, SEQUENCE)
        and sub(old, values) == sub(row, HEADER_SIZE + 1)
      return same and '1' or '2'
    end
  end
  if tombstone == '' then return '1', row, '' end
  local head = sub(row, 1, 1) .. char(byte(row, 2) + DELETED) .. sub(row, 3, HEADER_SIZE)
  return '1', head .. tombstone .. sub(row, HEADER_SIZE + 1), tombstone
end

local stored = count > 0 and redis.call('MGET', unpack(KEYS, 2, count + 1))
for i = 1, count do
  local key, row = KEYS[i + 1], ARGV[i + 4]
  local old = new[key] or stored[i]
  local outcome, result, tombstone = '1', row, ''
  if old and #old > 0 then
    outcome, result, tombstone = merge(old, row)
    if not outcome then return redis.error_reply(NEWER) end
  end
  outcomes[i] = outcome
  if result then
    if not new[key] then put[#put + 1] = key end
    new[key] = result
    expires[key] = seconds > 0 and tombstone == ''
  end
end

if high ~= '' then raise(KEYS[count + 2], high) end
local plain = {}
for i = 1, #put do
  local key = put[i]
  if expires[key] then
    redis.call('SET', key, new[key], 'EX', seconds)
  else
    plain[#plain + 1] = key
    plain[#plain + 1] = new[key]
  end
end
if #plain > 0 then redis.call('MSET', unpack(plain)) end
if word ~= '' then return table.concat(outcomes) .. ':' .. leave_marker(KEYS[1], word) end
return table.concat(outcomes)
