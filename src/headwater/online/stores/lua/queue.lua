-- What the scripts of the refresh queue share. KEYS[1] is what all its keys begin with; they share its slot.

local base = KEYS[1]
local items, streams, rest, retry, dead = base..':items', base..':streams', base..':rest', base..':retry', base..':dead'
local function stream(view, band) return base..':s:'..view..':'..band end
local function get(id)
  local found = redis.call('HGET', items, id)
  return found and cjson.decode(found)
end
local function set(id, item) redis.call('HSET', items, id, cjson.encode(item)) end
local function band(item, now)
  local urgency = (now - tonumber(item.event)) / tonumber(item.sla) * item.asked
  return urgency >= 16 and 0 or urgency >= 4 and 1 or 2
end
local function enqueue(id, item, now)
  item.band, item.token = band(item, now), ''
  local key = stream(item.view, item.band)
  if redis.call('SADD', streams, item.view..':'..item.band) == 1 or redis.call('EXISTS', key) == 0 then
    redis.pcall('XGROUP', 'CREATE', key, 'workers', '0', 'MKSTREAM')
  end
  item.entry = redis.call('XADD', key, '*', 'id', id)
  set(id, item)
end
local function leave(item)
  if item.entry ~= '' then
    local key = stream(item.view, item.band)
    redis.call('XACK', key, 'workers', item.entry)
    redis.call('XDEL', key, item.entry)
    item.entry, item.token = '', ''
  end
end
local function remove(id, item)
  leave(item)
  redis.call('HDEL', items, id)
  for _, set_ in ipairs({rest, retry, dead}) do redis.call('ZREM', set_, id) end
end
local function lowest(own)
  for b = 2, own, -1 do
    for _, view in ipairs(redis.call('SMEMBERS', streams)) do
      if view:sub(-2) == ':'..b then
        for _, entry in ipairs(redis.call('XRANGE', base..':s:'..view, '-', '+', 'COUNT', 16)) do
          local id = entry[2][2]
          local item = get(id)
          if item and item.token == '' then return id, item end
        end
      end
    end
  end
end
