-- ARGV: the limit. Gives the id of each dead hint, the hint (JSON) and when it died, the last one first.

local found = {}
for _, id in ipairs(redis.call('ZREVRANGE', dead, 0, tonumber(ARGV[1]) - 1)) do
  found[#found + 1] = id
  found[#found + 1] = redis.call('HGET', items, id)
  found[#found + 1] = redis.call('ZSCORE', dead, id)
end
return found
