-- ARGV: now, the lease (milliseconds), the limit, a token, the views. Gives the hints that are claimed (JSON).

local now, lease, limit, token, found = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), ARGV[4], {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', retry, '-inf', now, 'LIMIT', 0, limit)) do
  redis.call('ZREM', retry, id)
  local item = get(id)
  if item then enqueue(id, item, now) end
end
for b = 0, 2 do
  for i = 5, #ARGV do
    local key = stream(ARGV[i], b)
    if #found < limit and redis.call('EXISTS', key) == 1 then
      local entries = redis.call('XAUTOCLAIM', key, 'workers', 'worker', lease, '0-0', 'COUNT', limit - #found)[2]
      if #entries + #found < limit then
        local fresh = redis.call(
          'XREADGROUP', 'GROUP', 'workers', 'worker', 'COUNT', limit - #found - #entries, 'STREAMS', key, '>')
        for _, entry in ipairs(fresh and fresh[1][2] or {}) do entries[#entries + 1] = entry end
      end
      for _, entry in ipairs(entries) do
        local id = entry[2][2]
        local item = get(id)
        if item and item.entry == entry[1] then
          item.tries, item.token = item.tries + 1, token
          set(id, item)
          found[#found + 1] = cjson.encode(item)
        else
          redis.call('XACK', key, 'workers', entry[1])
          redis.call('XDEL', key, entry[1])
        end
      end
    end
  end
end
return found
