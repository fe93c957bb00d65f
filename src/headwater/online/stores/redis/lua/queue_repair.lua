-- ARGV: now, how long a retry may last, and a rest whose SLA is not longer. Gives how many lasted longer by a fast clock.

local now, longest, count = tonumber(ARGV[1]), tonumber(ARGV[2]), 0
for _, set_ in ipairs({rest, retry, dead}) do
  local late = redis.call('ZRANGEBYSCORE', set_, '('..ARGV[1], '+inf', 'WITHSCORES')
  for i = 1, #late, 2 do
    local item = get(late[i])
    local may = set_ == dead and 0 or math.max(longest, item and tonumber(item.sla) or 0)
    if tonumber(late[i + 1]) > now + may then
      redis.call('ZADD', set_, ARGV[1], late[i])
      count = count + 1
    end
  end
end
return count
