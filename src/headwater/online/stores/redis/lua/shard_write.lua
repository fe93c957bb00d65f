-- KEYS: the hash of the shard's meta entries.
-- ARGV: the state that the shard must have still or '', the replication id or '', the high-water mark's field or '' and
-- its number (8 bytes), how many fields are expected; then for each expected field and each entry the field, and '1' and
-- bytes or '0' and ''.
-- Gives 1 where everything was as expected and the entries are written, else 0.

local id, high, number, expected = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
if ARGV[1] ~= '' and this_shard() ~= ARGV[1] then return 0 end
if id ~= '' and replication_id() ~= id then return 0 end
for i = 6, 5 + 3 * expected, 3 do
  local stored = redis.call('HGET', KEYS[1], ARGV[i])
  if ARGV[i + 1] == '1' then
    if stored ~= ARGV[i + 2] then return 0 end
  elseif stored then
    return 0
  end
end
if high ~= '' and is_lower(redis.call('HGET', KEYS[1], high), number) then redis.call('HSET', KEYS[1], high, number) end
for i = 6 + 3 * expected, #ARGV, 3 do
  if ARGV[i + 1] == '1' then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
  else
    redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
return 1
