-- ARGV: now, the limit, then id and hint (JSON) of each. Gives how many were dropped, for want of room.

local now, limit, dropped = tonumber(ARGV[1]), tonumber(ARGV[2]), 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', rest, '-inf', now)) do
  redis.call('ZREM', rest, id)
  redis.call('HDEL', items, id)
end
for i = 3, #ARGV, 2 do
  local id, new = ARGV[i], cjson.decode(ARGV[i + 1])
  local old, bad = get(id)
  if bad then discard(id) end
  if not old then
    local room = true
    if redis.call('HLEN', items) - redis.call('ZCARD', rest) - redis.call('ZCARD', dead) >= limit then
      dropped = dropped + 1
      local least, item = lowest(band(new, now))
      if least then remove(least, item) else room = false end
    end
    if room then enqueue(id, new, now) end
  elseif redis.call('ZSCORE', rest, id) then
    if tonumber(new.event) > tonumber(old.event) then
      redis.call('ZREM', rest, id)
      enqueue(id, new, now)
    end
  elseif not redis.call('ZSCORE', dead, id) then
    old.asked = old.asked + new.asked
    if tonumber(new.sla) < tonumber(old.sla) then old.sla = new.sla end
    if tonumber(new.event) > tonumber(old.event) then old.event = new.event end
    if old.entry ~= '' and old.token == '' and band(old, now) < old.band then
      leave(old)
      enqueue(id, old, now)
    else
      set(id, old)
    end
  end
end
return dropped
