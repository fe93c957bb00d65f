-- ARGV: the limit, then for each hint its id, token, kind, until when, and error.

for i = 2, #ARGV, 5 do
  local id, token, kind, till, error = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local item, bad = get(id)
  if bad and kind == 'done' then
    discard(id)
  elseif item and kind == 'done' then
    remove(id, item)
  elseif item and item.token == token and token ~= '' then
    leave(item)
    item.error = error
    set(id, item)
    redis.call('ZADD', kind == 'rest' and rest or kind == 'dead' and dead or retry, till, id)
  end
end
for _, set_ in ipairs({rest, dead}) do
  local over = redis.call('ZCARD', set_) - tonumber(ARGV[1])
  if over > 0 then
    for _, id in ipairs(redis.call('ZRANGE', set_, 0, over - 1)) do
      redis.call('ZREM', set_, id)
      redis.call('HDEL', items, id)
    end
  end
end
return 1
