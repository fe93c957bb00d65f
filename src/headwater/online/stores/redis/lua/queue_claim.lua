-- ARGV: now, the lease (milliseconds), the limit, a token, the views. Gives ids and hints (JSON) by turns: those that are
-- claimed, and what cannot be read and was removed.

local now, lease, limit, token, found = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), ARGV[4], {}
local count = 0
local function give(id, text)
  found[#found + 1], found[#found + 2] = id, text
  count = count + 1
end
local function give_up(id)
  give(id, redis.call('HGET', items, id))
  discard(id)
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', retry, '-inf', now, 'LIMIT', 0, limit)) do
  redis.call('ZREM', retry, id)
  local item, bad = get(id)
  if item then enqueue(id, item, now) elseif bad then give_up(id) end
end
for b = 0, 2 do
  for i = 5, #ARGV do
    local key = stream(ARGV[i], b)
    if count < limit and is_stream(key) then
      redis.pcall('XGROUP', 'CREATE', key, 'workers', '0')
      local entries = redis.call('XAUTOCLAIM', key, 'workers', 'worker', lease, '0-0', 'COUNT', limit - count)[2]
      if #entries + count < limit then
        local fresh = redis.call(
          'XREADGROUP', 'GROUP', 'workers', 'worker', 'COUNT', limit - count - #entries, 'STREAMS', key, '>')
        for _, entry in ipairs(fresh and fresh[1][2] or {}) do entries[#entries + 1] = entry end
      end
      for _, entry in ipairs(entries) do
        local id = entry[2] and entry[2][2]
        local item, bad = get(id)
        if item and item.entry == entry[1] then
          item.tries, item.token = item.tries + 1, token
          set(id, item)
          give(id, cjson.encode(item))
        else
          if bad then give_up(id) end
          redis.call('XACK', key, 'workers', entry[1])
          redis.call('XDEL', key, entry[1])
        end
      end
    end
  end
end
return found
