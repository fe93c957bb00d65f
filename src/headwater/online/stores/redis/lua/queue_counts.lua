-- ARGV: now. Gives how many wait, are claimed, rest and are dead, and since when the oldest waits ('': none).

local claimed, first = 0, {}
for _, view in ipairs(redis.call('SMEMBERS', streams)) do
  local key = base..':s:'..view
  if is_stream(key) then
    local pending = redis.pcall('XPENDING', key, 'workers')
    claimed = claimed + (pending.err and 0 or pending[1])
    local entry = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
    if entry and entry[2] then first[#first + 1] = entry[2][2] end
  end
end
for _, id in ipairs(redis.call('ZRANGE', retry, 0, 99)) do first[#first + 1] = id end
local oldest = ''
for _, id in ipairs(first) do
  local item = get(id)
  if item and (oldest == '' or tonumber(item.asked_at) < tonumber(oldest)) then oldest = item.asked_at end
end
local resting, gone = redis.call('ZCARD', rest), redis.call('ZCARD', dead)
local waiting = redis.call('HLEN', items) - resting - gone - claimed
return {waiting, claimed, redis.call('ZCOUNT', rest, '('..ARGV[1], '+inf'), gone, oldest}
