-- What the scripts of the refresh queue share. KEYS[1] is what all its keys begin with; they share its slot.

local base = KEYS[1]
local items, streams, rest, retry, dead = base..':items', base..':streams', base..':rest', base..':retry', base..':dead'
local function is_stream(key) return redis.call('TYPE', key).ok == 'stream' end
local function stream(view, band) return base..':s:'..view..':'..band end
-- what is stored under an id, and whether something is that nobody can read
local function get(id)
  local found = id and redis.call('HGET', items, id)
  if not found then return nil, false end
  local ok, item = pcall(cjson.decode, found)
  if not ok or type(item) ~= 'table' then return nil, true end
  for _, name in ipairs({'view', 'version', 'key', 'token', 'entry', 'error'}) do
    if type(item[name]) ~= 'string' then return nil, true end
  end
  for _, name in ipairs({'event', 'sla', 'asked_at', 'asked', 'tries'}) do
    item[name] = type(item[name]) ~= 'table' and item[name] or ''
    local number = tonumber(item[name])
    if not number or number ~= number then return nil, true end
  end
  if tonumber(item.sla) < 1 or (item.entry ~= '' and not item.band) then return nil, true end
  item.asked, item.tries = tonumber(item.asked), tonumber(item.tries)
  return item, false
end
local function discard(id)
  redis.call('HDEL', items, id)
  for _, set_ in ipairs({rest, retry, dead}) do redis.call('ZREM', set_, id) end
end
local function set(id, item) redis.call('HSET', items, id, cjson.encode(item)) end
local function band(item, now)
  local urgency = (now - tonumber(item.event)) / tonumber(item.sla) * item.asked
  return urgency >= 16 and 0 or urgency >= 4 and 1 or 2
end
local function enqueue(id, item, now)
  item.band, item.token = band(item, now), ''
  local key = stream(item.view, item.band)
  if redis.call('SADD', streams, item.view..':'..item.band) == 1 or not is_stream(key) then
    if not is_stream(key) then redis.call('DEL', key) end
    redis.pcall('XGROUP', 'CREATE', key, 'workers', '0', 'MKSTREAM')
  end
  item.entry = redis.call('XADD', key, '*', 'id', id)
  set(id, item)
end
local function leave(item)
  local key = item.entry ~= '' and stream(item.view, item.band)
  if key and is_stream(key) then
    redis.pcall('XACK', key, 'workers', item.entry)
    redis.pcall('XDEL', key, item.entry)
  end
  item.entry, item.token = '', ''
end
local function remove(id, item)
  leave(item)
  discard(id)
end
local function lowest(own)
  for b = 2, own, -1 do
    for _, view in ipairs(redis.call('SMEMBERS', streams)) do
      if view:sub(-2) == ':'..b and is_stream(base..':s:'..view) then
        for _, entry in ipairs(redis.call('XRANGE', base..':s:'..view, '-', '+', 'COUNT', 16)) do
          local id = entry[2] and entry[2][2]
          local item = get(id)
          if item and item.token == '' then return id, item end
        end
      end
    end
  end
end
