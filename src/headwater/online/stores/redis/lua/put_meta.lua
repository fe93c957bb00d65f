-- KEYS: those that must be as expected (the token's among them), the entries', the high-water mark's where there is one.
-- ARGV: how many are expected, the replication id or '', the high-water number (8 bytes) or '', then '1' and bytes or
-- '0' and '' for each expected key and each entry.
-- Gives 1 where everything was as expected and the entries are written, else 0.

local expected, id, high = tonumber(ARGV[1]), ARGV[2], ARGV[3]
if id ~= '' and replication_id() ~= id then return 0 end
for i = 1, expected do
  local stored = redis.call('GET', KEYS[i])
  if ARGV[2 * i + 2] == '1' then
    if stored ~= ARGV[2 * i + 3] then return 0 end
  elseif stored then
    return 0
  end
end
local last = #KEYS
if high ~= '' then
  raise(KEYS[last], high)
  last = last - 1
end
for i = expected + 1, last do
  if ARGV[2 * i + 2] == '1' then redis.call('SET', KEYS[i], ARGV[2 * i + 3]) else redis.call('DEL', KEYS[i]) end
end
return 1
