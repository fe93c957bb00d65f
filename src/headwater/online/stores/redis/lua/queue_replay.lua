-- ARGV: now, the views. Gives how many dead hints are to be tried again.

local views, count = {}, 0
for i = 2, #ARGV do views[ARGV[i]] = true end
for _, id in ipairs(redis.call('ZRANGE', dead, 0, -1)) do
  local item, bad = get(id)
  if bad then discard(id) end
  if item and views[item.view] then
    redis.call('ZREM', dead, id)
    item.tries, item.error = 0, ''
    enqueue(id, item, tonumber(ARGV[1]))
    count = count + 1
  end
end
return count
