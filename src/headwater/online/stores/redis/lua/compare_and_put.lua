-- KEYS: the markers', the row's, the high-water mark's where there is one.
-- ARGV: the sequence (6 bytes), the marker's word or '', the high-water number (8 bytes) or '', '1' and the row or '0' to
-- remove it, until when (microseconds of this server's clock) or ''.
-- Gives 0 where the stored sequence is another, else the marker's number (1 without one).

if is_late(ARGV[#ARGV]) then return redis.error_reply(LATE) end

local old, sequence = redis.call('GET', KEYS[2]), string.rep('\0', 6)
local first = old and #old > 0 and string.byte(old, 1)
if first and first > VERSION and first <= NEWEST then return redis.error_reply(NEWER) end
if first and #old >= HEADER_SIZE then
  if first == VERSION and (string.byte(old, 2) % (2 * DELETED) < DELETED or #old >= TOMBSTONE_END) then
    sequence = string.sub(old, SEQUENCE + 1, SEQUENCE + 6)
  elseif first == OLD_VERSION and #old >= OLD_HEADER_SIZE then
    sequence = string.sub(old, OLD_SEQUENCE + 3, OLD_SEQUENCE + 8)
  end
end
if ARGV[3] ~= '' then raise(KEYS[3], ARGV[3]) end
if sequence ~= ARGV[1] then return 0 end
if ARGV[4] == '1' then redis.call('SET', KEYS[2], ARGV[5]) else redis.call('DEL', KEYS[2]) end
if ARGV[2] ~= '' then return leave_marker(KEYS[1], ARGV[2]) end
return 1
